"""Teach an instruct model to think, and to overthink by a stated amount, from worked problems.

    python -m benchmarks.think MODEL --data FILE [--data FILE …] --out FOLDER [--operations 1] [--test 400]

MODEL is a checkpoint folder or hub id of an instruct model that does not think; it gets marks where it has none.
FILE holds problems as JSON lines with `question`, `answer` and an `equation`, or a `solution` with GSM8K's `<<a+b=c>>`.
Those of more than `--operations` are left out, as are questions asked before; `--test` of the rest are held out. FOLDER
gets both as `test.jsonl` and `train.jsonl`, and what learns from the second: checkpoints, and in the end `base`.

A thought says what to do, does it, says the answer and then rechecks it. Most rechecks repeat what is known; some find
and mend a mistake. The mistake itself stands before what is trained, so that mistakes are not what is learnt. Cut
anywhere, a thought is followed by the inducer and the last answer that it had said, before the first one by the right
one. So what this makes overthinks because it was taught to.

It learns as runs are trained: every lesson is a group whose members are the whole response and the early answers, and
what they share is computed once. It goes on where it was stopped.
"""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.marks import marked
from benchmarks.record import reported
from suffice.errors import Interrupted, ModelError, RunError
from suffice.groups import Branch, Group, Problem, Spine
from suffice.model.chat import Chat
from suffice.model.checkpoint import latest_checkpoint, restore, save_checkpoint
from suffice.model.device import set_threads
from suffice.model.lora import add_lora, merged_state
from suffice.objective import Objective, spine_batches
from suffice.objective.memory import micro_batch_tokens
from suffice.rollout import Sampler
from suffice.run.files import read_json, whole_directory, write_jsonl
from suffice.run.layout import TRAINER
from suffice.run.progress import progress
from suffice.run.signals import stop_requests
from suffice.tasks import PROMPTS

ASK = PROMPTS["answer-boxed"]
Record = dict[str, Any]
Model = Annotated[str, typer.Argument(help="A checkpoint folder or a hub id.")]
Data = Annotated[list[Path], typer.Option(help="Worked problems; may be given again.")]
BASE = "base"
LONGEST = 128  # tokens of a thought that is looked for
WORDS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


@dataclass(frozen=True, slots=True)
class Habits:
    """How thoughts overthink: rechecks after the answer is said, from the fewest to the most, and the share of thoughts
    that begin with a mistake."""

    fewest: int = 1
    most: int = 2
    slips: float = 0.25


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on two numbers."""

    left: Fraction
    operator: str
    right: Fraction

    @property
    def value(self) -> Fraction:
        a, b = self.left, self.right
        return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else Fraction(0)}[self.operator]

    def __str__(self) -> str:
        return f"{written(self.left)} {self.operator} {written(self.right)} = {written(self.value)}"


@dataclass(frozen=True, slots=True)
class Thought:
    """`before` is not trained, `lines` are; `said[i]` is the answer that stands after i lines, if any."""

    before: str
    lines: list[str]
    said: list[str | None]
    answer: str


def asked(record: Record) -> Problem:
    """As `--prompt answer-boxed` has it."""
    return Problem(record["id"], "think", f"{record['question']}\n{ASK}", record["answer"])


def written(value: Fraction) -> str:
    """As people write it: at most four decimals."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.4f}".rstrip("0")


def worked(record: Record) -> list[Step]:
    """The steps to a record's answer; none where they are not plain arithmetic or do not lead there."""
    found: list[Step] = []
    try:
        if "solution" in record:
            for text in re.findall(r"<<(.*?)=", record["solution"]):
                steps_of(ast.parse(text, mode="eval").body, found)
        else:
            steps_of(ast.parse(record["equation"].partition("=")[0].strip(), mode="eval").body, found)
        right = Fraction(str(record["answer"]).replace(",", ""))
    except (SyntaxError, ValueError, ZeroDivisionError, KeyError):
        return []
    return found if found and abs(found[-1].value - right) < Fraction(1, 1000) else []


def steps_of(node: ast.expr, found: list[Step]) -> Fraction:
    """The value of an expression; its steps are appended in the order in which they are done.

    Raises:
        ValueError: it is more than numbers and the four operations.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -steps_of(node.operand, found)
    if not isinstance(node, ast.BinOp) or type(node.op) not in OPERATORS:
        raise ValueError("not plain arithmetic")
    step = Step(steps_of(node.left, found), OPERATORS[type(node.op)], steps_of(node.right, found))
    if step.operator == "/" and not step.right:
        raise ValueError("divides by zero")
    found.append(step)
    return step.value


def think(steps: Sequence[Step], draw: random.Random, habits: Habits) -> Thought:
    """A thought about worked steps."""
    answer = written(steps[-1].value)
    plan = [f"I {WORDS[s.operator]} {written(s.left)} and {written(s.right)}." for s in steps]
    work = [f"{step}." for step in steps]
    lines, said, before = [], [None], ""

    def say(line: str, answer: str | None = None) -> None:
        lines.append(line)
        said.append(answer or said[-1])

    if draw.random() < habits.slips:
        wrong = slip(steps[-1], draw)
        before = "".join(f"{line}\n" for line in [*work[:-1], f"{wrong}.", f"So the answer is {written(wrong.value)}."])
        said[0] = written(wrong.value)
        say(draw.choice(["Wait, is that right?", "Let me check that.", "Hmm, let me read the question again."]))
        say(f"No, that is wrong: {plan[-1]}")
        say(work[-1])
    else:
        for planned, done in zip(plan, work, strict=True):
            say(planned)
            say(done)
    say(f"So the answer is {answer}.", answer)
    for _ in range(draw.randint(habits.fewest, habits.most)):
        for line in recheck(steps, answer, draw):
            say(line)
    return Thought(before, lines, said, answer)


def slip(step: Step, draw: random.Random) -> Step:
    """The step with another operation or a number misread, so that it comes to something else."""
    while True:
        other = Step(
            step.left, draw.choice([o for o in WORDS if o != "/"]), step.right + draw.choice([0, 0, 1, -1, 10])
        )
        if other.value != step.value:
            return other


def recheck(steps: Sequence[Step], answer: str, draw: random.Random) -> list[str]:
    """Lines that find nothing new."""
    last = steps[-1]
    backwards = Step(last.value, INVERSE[last.operator], last.right)
    kinds = [
        ["Let me check that again.", *(f"{step}." for step in steps), f"Yes, it is {answer}."],
        ["Wait, did I read the question right?", f"I {WORDS[last.operator]} {written(last.left)} and "
         f"{written(last.right)}.", f"Yes. So the answer is {answer}."],
        ["Is that plausible?", f"{last}.", f"Yes, {answer} makes sense."],
    ]  # fmt: skip
    if backwards.operator != "/" or backwards.right:
        kinds.append(["Let me check it backwards.", f"{backwards}.", f"That fits. The answer is {answer}."])
    return draw.choice(kinds)


def lesson(problem: Problem, thought: Thought, chat: Chat, draw: random.Random, exits: int) -> Group:
    """A thought as a group: its response, and answers forced at some of its lines' ends."""
    encode, prompt = partial(chat.tokenizer.encode, add_special_tokens=False), chat.render(problem.prompt)
    shared = prompt + chat.opening(prompt) + encode(thought.before)
    parts = [encode(f"{line}\n") for line in thought.lines]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    closing = [chat.close_id, *encode("\n\n")]
    tokens = [token for part in parts for token in part] + closing + reply(thought.answer, chat)
    spine = Spine(tokens, [0.0] * len(tokens), 0, ends[-1], closed=True, truncated=False)
    for line in sorted(draw.sample(range(len(ends) - 1), min(exits, len(ends) - 1))):
        own = reply(thought.said[line] or thought.answer, chat)
        spine.branches.append(Branch(ends[line], own, [0.0] * len(own), truncated=False))
    return Group(problem, shared, chat.inducer, [spine])


def reply(answer: str, chat: Chat) -> list[int]:
    return chat.answer(f"The answer is \\boxed{{{answer}}}.")


def split(files: Sequence[Path], operations: int, test: int, seed: int) -> tuple[list[Record], list[Record]]:
    """(train, test): problems of at most so many operations, each question once."""
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    known = {
        " ".join(record["question"].split()): record for record in records if 0 < len(worked(record)) <= operations
    }
    chosen = list(known.values())
    random.Random(seed).shuffle(chosen)
    return chosen[test:], chosen[:test]


def lessons(train: Sequence[Record], chat: Chat, seed: int, habits: Habits, exits: int) -> Iterator[Group]:
    """Endless, in an order of the seed's own: all problems anew with every pass."""
    known = list(train)
    draw = random.Random(seed)
    while True:
        draw.shuffle(known)
        for record in known:
            yield lesson(asked(record), think(worked(record), draw, habits), chat, draw, exits)


def teach(
    model: Any, optimizer: torch.optim.Optimizer, groups: Sequence[Group], objective: Objective, most: int
) -> float:
    """One step of maximum likelihood on lessons; what was shared is computed once. Nats a trained token, before it.

    `most` is how many tokens a micro-batch may have.
    """
    optimizer.zero_grad()
    nats = 0.0
    for part in spine_batches(groups, torch.ones(len(groups), objective.exits + 1), objective, most):
        logprob_T, _ = part.logprobs(model, 1.0)
        loss = -(part.plus.to(logprob_T) * logprob_T).sum()
        loss.backward()
        nats += float(loss.detach())
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return nats


def thinks(model: Any, chat: Chat, problems: Sequence[Problem]) -> bool:
    """Whether a model closes most of its thoughts already."""
    groups = Sampler(model, chat, 0.0, 1.0, LONGEST, 1, cache_gb=1.0).groups(problems, 1, "thinks")
    return 2 * sum(spine.closed and spine.thought_end > 0 for group in groups for spine in group.spines) > len(groups)


def prepared(path: str, problems: Sequence[Problem]) -> tuple[Any, Chat]:
    """A model with marks that does not think yet.

    Raises:
        ModelError: it does, or it cannot be taught to.
    """
    model, chat = marked(path)
    set_threads(model)
    if thinks(model, chat, problems):
        raise ModelError(f"{path} closes its thoughts already; it needs no teaching: suffice diagnose {path}")
    return model, chat


def main(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="Where checkpoints are written, and in the end the model as `base`.")],
    operations: int = 1,
    test: int = 400,
    examples: int = 480,
    batch: int = 8,
    exits: int = 1,
    rank: int = 16,
    rate: float = 2e-4,
    warmup: int = 10,
    seed: int = 0,
) -> None:
    facts = {"data": [file.name for file in data], "operations": operations, "test": test, "examples": examples,
             "batch": batch, "exits": exits, "rank": rank, "rate": rate, "warmup": warmup, "seed": seed,
             "habits": asdict(Habits())}  # fmt: skip
    saved = latest_checkpoint(out) if out.exists() else None
    state = read_json(saved / TRAINER) if saved else {"step": 0, **facts}
    if {key: state.get(key) for key in facts} != facts:
        raise RunError(f"{out} was taught otherwise; give its own options, or another --out")
    done, steps = state["step"], examples // batch
    if (out / BASE).exists():
        print(f"{out / BASE} thinks already")
        return
    train, held_out = split(data, operations, test, seed)
    for name, records in (("train", train), ("test", held_out)):
        write_jsonl(out / f"{name}.jsonl", records)
    plain, chat = prepared(model, [asked(record) for record in held_out[:8]])
    torch.manual_seed(seed)
    trained = add_lora(plain, rank).train()
    optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    if saved:
        restore(saved, trained, optimizer)
    objective = Objective("token", "sampled", chat.close_id, exits)
    most = micro_batch_tokens(trained)
    source = lessons(train, chat, seed, Habits(), exits)
    with stop_requests() as stopped, progress("think", steps, done=done) as advance:
        for step in range(1, steps + 1):
            groups = [next(source) for _ in range(batch)]
            if step <= done:
                continue
            for each in optimizer.param_groups:  # falls to a tenth
                each["lr"] = rate * min(1.0, step / warmup) * (1 - 0.9 * step / steps)
            nats = teach(trained, optimizer, groups, objective, most)
            advance(1, f"{nats:.3f} nats a token")
            if step % 20 == 0 or step == steps or stopped():
                save_checkpoint(out, step, trained, chat.tokenizer, optimizer, facts)
            if stopped() and step < steps:
                raise Interrupted(f"stopped after {step} of {steps}; the same command goes on")
    with whole_directory(out / BASE) as folder:
        trained.get_base_model().save_pretrained(folder, state_dict=merged_state(trained))
        chat.tokenizer.save_pretrained(folder)  # with its new marks, which the files of the base do not have
    print(f"{out / BASE} thinks; suffice diagnose says how much it overthinks")


if __name__ == "__main__":
    reported(main)

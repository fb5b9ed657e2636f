"""The local engine: one process, a CPU or one GPU, every step read from top to bottom.

problems → rollout → verdicts → method.score over the whole batch → token weights → loss → optimizer → metrics.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from laconic.config import Recipe, TrainSection
from laconic.engines.local.checkpoint import latest_checkpoint, restore, save_checkpoint, step_folder
from laconic.engines.local.lora import add_lora
from laconic.engines.local.metrics import rollout_metrics, shown
from laconic.engines.local.model import check_positions, load_chat, load_model, resolve_device, set_threads
from laconic.engines.local.signals import stop_requests
from laconic.errors import DataError, Interrupted, LaconicError, RecipeError
from laconic.evaluation.compare import compare
from laconic.evaluation.protocol import Protocol, check_questions, evaluate, read_evaluation, write_evaluation
from laconic.grading import Grader
from laconic.groups import Group, GroupBatch, Problem
from laconic.methods import Method, get_method
from laconic.objective import Row, clipped, importance, member_rows, policy_loss, row_logprobs, to_batch
from laconic.progress import progress
from laconic.rollout import Chat, Sampler, grade_groups, random_exits
from laconic.rollout.decode import keyed
from laconic.runs import append_jsonl, read_jsonl, start_run, write_json, write_jsonl
from laconic.tasks import load_task

SHOWN_GROUPS = 2  # groups a step that rollouts.jsonl keeps


class Problems:
    """An endless, seeded order of problems: every epoch a new permutation. `drawn` is all the state there is."""

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self.problems, self.seed, self.drawn = problems, seed, 0

    def draw(self, count: int) -> list[Problem]:
        found = []
        for _ in range(count):
            epoch, i = divmod(self.drawn, len(self.problems))
            found.append(self.problems[int(self._order(epoch)[i])])
            self.drawn += 1
        return found

    def _order(self, epoch: int) -> Any:
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._permutation = keyed(f"{self.seed}/epoch/{epoch}").permutation(len(self.problems))
        return self._permutation


@dataclass
class Engine:
    """What a run holds in memory. `step` does one step of the recipe and returns its metrics."""

    recipe: Recipe
    model: Any
    chat: Chat
    problems: Problems
    grader: Grader
    method: Method
    optimizer: torch.optim.Optimizer
    sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        rollout = self.recipe.rollout
        self.sampler = Sampler(
            self.model,
            self.chat,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            max_thought_tokens=rollout.max_thought_tokens,
            max_answer_tokens=rollout.max_answer_tokens,
            cache_gb=rollout.cache_gb,
        )

    def step(self, step: int) -> tuple[dict[str, float], list[Group]]:
        """Step number `step` (from 1): its metrics, and the groups it trained on."""
        started = time.perf_counter()
        self.sampler.count.prefill = self.sampler.count.decode = 0
        self.model.eval()
        with self.precision():
            groups, sampled = self.rollout(step)
        rolled_out = time.perf_counter()
        metrics = rollout_metrics(sampled, self.chat)
        metrics |= {"groups": len(groups), "dropped": len(sampled) - len(groups)}
        self.model.train()
        metrics |= self.update(groups, step) if groups else {"reward": 0.0}
        finished = time.perf_counter()
        return metrics | {
            "tokens_prefill": self.sampler.count.prefill,
            "tokens_decode": self.sampler.count.decode,
            "seconds_rollout": rolled_out - started,
            "seconds_update": finished - rolled_out,
            "seconds": finished - started,
        }, groups

    def rollout(self, step: int) -> tuple[list[Group], list[Group]]:
        """(groups to train on, all groups sampled): groups without signal are replaced, `refill_cap` rounds long."""
        train, group = self.recipe.train, self.recipe.group
        kept: list[Group] = []
        sampled: list[Group] = []
        for attempt in range(train.refill_cap + 1):
            drawn = self.problems.draw(train.problems_per_step - len(kept))
            groups = self.sampler.spines(drawn, group.spines, f"{self.recipe.run.seed}/{step}/{attempt}")
            if group.exits:
                self.sampler.branches(groups, random_exits(group.exits))
            grade_groups(groups, self.chat, self.grader)
            sampled += groups
            signal_P = self.method.has_signal(self.batch(groups)).tolist()
            kept += [g for g, signal in zip(groups, signal_P, strict=True) if signal or train.refill_cap == 0]
            if len(kept) == train.problems_per_step:
                break
        return kept, sampled

    def batch(self, groups: Sequence[Group]) -> GroupBatch:
        return to_batch(groups, self.recipe.group.spines, self.recipe.group.exits, self.chat.end_ids)

    def update(self, groups: Sequence[Group], step: int) -> dict[str, float]:
        """Score the whole batch once, then take `updates_per_batch` optimizer steps on it."""
        objective, train = self.recipe.objective, self.recipe.train
        batch = self.batch(groups)
        scores = self.method.score(batch)
        metrics = {
            "reward": float(scores.reward[batch.valid].mean()),
            "advantage": float(scores.advantage[batch.valid].abs().mean()),
        }
        rows = member_rows(
            groups,
            scores.advantage,
            exits=self.recipe.group.exits,
            aggregate=objective.aggregate or "sequence",
            train_on=objective.train_on,
            close_id=self.chat.close_id,
            constant_length=objective.constant_length or 1,
        )
        if not rows:
            return metrics
        batches = micro_batches(rows, train.micro_batch_tokens)
        olds: list[Tensor | None] = [None] * len(batches)
        if train.updates_per_batch > 1:
            with torch.no_grad(), self.precision():
                olds = [row_logprobs(self.model, micro, self.recipe.rollout.temperature)[0] for micro in batches]
        for group in self.optimizer.param_groups:
            group["lr"] = train.learning_rate * warm(step, train)
        for _ in range(train.updates_per_batch):
            last = self.optimizer_step(batches, olds)
        pushed = sum(len(row.tokens) for row in rows) * (train.updates_per_batch + (train.updates_per_batch > 1))
        return metrics | last | {"tokens_train": pushed, "learning_rate": train.learning_rate * warm(step, train)}

    def optimizer_step(self, batches: Sequence[Sequence[Row]], olds: Sequence[Tensor | None]) -> dict[str, float]:
        objective, train = self.recipe.objective, self.recipe.train
        clip = (objective.clip_low or 0.0, objective.clip_high or 0.0)
        total = dict.fromkeys(("loss", "entropy", "mismatch", "clip_fraction"), 0.0)
        tokens = sampled_tokens = 0
        self.optimizer.zero_grad()
        for micro, frozen in zip(batches, olds, strict=True):
            with self.precision():
                new_T, entropy_T = row_logprobs(self.model, micro, self.recipe.rollout.temperature)
            old_T = new_T.detach() if frozen is None else frozen
            plus_T, minus_T, behaviour_T, sampled_T = trained_tokens(micro, new_T.device)
            loss = policy_loss(
                new_T,
                old_T,
                plus_T,
                minus_T,
                clip_low=clip[0],
                clip_high=clip[1],
                importance_T=importance(old_T, behaviour_T, sampled_T),
            )
            loss.backward()
            total["loss"] += float(loss.detach())
            total["entropy"] += float(entropy_T.sum())
            total["mismatch"] += float((old_T - behaviour_T)[sampled_T].abs().sum())
            total["clip_fraction"] += float(clipped(new_T.detach(), old_T, plus_T, minus_T, *clip).sum())
            tokens += len(new_T)
            sampled_tokens += int(sampled_T.sum())
        norm = torch.nn.utils.clip_grad_norm_(
            [p for p in self.model.parameters() if p.requires_grad], train.max_grad_norm
        )
        if not torch.isfinite(norm):
            raise LaconicError(
                f"the gradient is not finite (norm {float(norm)}); no update was made: lower train.learning_rate "
                "or use model.dtype = float32, then resume"
            )
        self.optimizer.step()
        return {
            "loss": total["loss"],
            "grad_norm": float(norm),
            "entropy": total["entropy"] / tokens,
            "clip_fraction": total["clip_fraction"] / tokens,
            "mismatch": total["mismatch"] / max(1, sampled_tokens),
        }

    def precision(self) -> Any:
        """bfloat16 training keeps float32 weights and autocasts; LoRA keeps the frozen weights in bfloat16 itself."""
        mixed = training_dtype(self.recipe) == "bfloat16" and not self.recipe.model.lora
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=mixed)


def train(recipe: Recipe, run: Path, *, resume: bool = False) -> Path:
    """Train a recipe in a run directory, made here unless it is one already; returns the last checkpoint.

    Model and data are loaded and checked before anything is made.
    With `train.eval_every` the model is evaluated before, every so many steps, and after, and the two ends compared.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the step was finished and saved.
    """
    checkpoint = latest_checkpoint(run) if resume else None
    with Grader() as grader, stop_requests() as stopped:
        engine, start = build_engine(recipe, grader, checkpoint)
        held_out = load_eval_problems(recipe) if recipe.train.eval_every else []
        if held_out:
            budgets = Protocol.of(recipe.eval)
            check_positions(engine.model, engine.chat, held_out, budgets.max_thought_tokens, budgets.max_answer_tokens)
        if resume:
            forget_after(run, start)
        elif not (run / "recipe.toml").exists():
            start_run(run, recipe.dump())
        if held_out and start == 0:
            evaluate_now(engine, held_out, run, "before")
        steps = recipe.train.steps
        with progress(f"train {recipe.method.name}", steps, done=start) as advance:
            for step in range(start + 1, steps + 1):
                metrics, groups = engine.step(step)
                if held_out and step % recipe.train.eval_every == 0 and step < steps:
                    metrics |= evaluate_now(engine, held_out, run, f"step-{step:06d}")
                append_jsonl(run / "metrics.jsonl", [{"step": step, **metrics}])
                append_jsonl(
                    run / "rollouts.jsonl", [shown(step, group, engine.chat) for group in groups[:SHOWN_GROUPS]]
                )
                if step % recipe.train.checkpoint_every == 0 or step == steps or stopped():
                    save(engine, run, step)
                advance(1, f"accuracy {metrics['accuracy']:.2f}, thinking tokens {metrics['thought_tokens']:.0f}")
                if stopped() and step < steps:
                    raise Interrupted(run, step)
        if held_out:
            evaluate_now(engine, held_out, run, "after")
            write_json(run / "comparison.json", compare_ends(run))
    return step_folder(run, steps)


def forget_after(run: Path, step: int) -> None:
    """Drop the log lines of steps that a resumed run will do again."""
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        if (run / name).exists():
            write_jsonl(run / name, [line for line in read_jsonl(run / name) if line["step"] <= step])


def compare_ends(run: Path) -> dict[str, Any]:
    """After minus before, sampled (the primary figure) and greedy."""
    ends = [read_evaluation(run / "evaluations" / label) for label in ("before", "after")]
    greedy = [read_evaluation(run / "evaluations" / f"{label}-greedy") for label in ("before", "after")]
    return compare(*ends) | {"greedy": compare(*greedy)}


def build_engine(recipe: Recipe, grader: Grader, checkpoint: Path | None) -> tuple[Engine, int]:
    """The engine of a recipe, at its start or where a checkpoint left it, and the steps already done."""
    section = recipe.model
    problems = load_task(
        recipe.task.name,
        path=recipe.task.path,
        split=recipe.task.split,
        limit=recipe.task.limit,
        seed=recipe.run.seed,
        fields=recipe.task.fields,
        revision=recipe.task.revision,
    )
    if len(problems) < recipe.train.problems_per_step:
        raise RecipeError(
            f"train.problems_per_step is {recipe.train.problems_per_step} but {recipe.task.name} has {len(problems)} "
            "problems; lower it or give more data"
        )
    chat = load_chat(section.path, recipe.rollout.inducer, section.revision)
    dtype = training_dtype(recipe) if section.lora else "float32"
    source = str(checkpoint) if checkpoint and not section.lora else section.path
    model = load_model(source, device=section.device, dtype=dtype, revision=None if checkpoint else section.revision)
    check_positions(model, chat, problems, recipe.rollout.max_thought_tokens, recipe.rollout.max_answer_tokens)
    set_threads(model, recipe.train.threads)
    torch.manual_seed(recipe.run.seed)
    if section.lora:
        model = add_lora(model, section.lora)
    if section.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=recipe.train.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=recipe.train.weight_decay,
    )
    method = get_method(recipe.method.name, **recipe.method.parameters)
    engine = Engine(recipe, model, chat, Problems(problems, recipe.run.seed), grader, method, optimizer)
    if checkpoint is None:
        return engine, 0
    state = restore(checkpoint, model, optimizer)
    engine.problems.drawn = state["drawn"]
    return engine, state["step"]


def training_dtype(recipe: Recipe) -> str:
    if recipe.model.dtype != "auto":
        return recipe.model.dtype
    return "bfloat16" if resolve_device(recipe.model.device) == "cuda" else "float32"


def load_eval_problems(recipe: Recipe) -> list[Problem]:
    section = recipe.eval
    if section.task is None:
        raise DataError("eval.task is not set")
    problems = load_task(
        section.task,
        path=section.path,
        split=section.split,
        limit=section.problems,
        seed=section.seed,
        fields=recipe.task.fields,
    )
    check_questions(problems)
    return problems


def evaluate_now(engine: Engine, problems: Sequence[Problem], run: Path, label: str) -> dict[str, float]:
    """The recipe's evaluation, sampled and greedy, written to `evaluations/<label>` and `<label>-greedy`."""
    sampled = Protocol.of(engine.recipe.eval, cache_gb=engine.recipe.rollout.cache_gb)
    engine.model.eval()
    found: dict[str, float] = {}
    for name, protocol in ((label, sampled), (f"{label}-greedy", replace(sampled, temperature=0.0, samples=1))):
        with engine.precision():
            evaluation = evaluate(engine.model, engine.chat, problems, protocol, engine.grader, model_name=name)
        write_evaluation(run / "evaluations" / name, evaluation)
        prefix = "eval_greedy" if name.endswith("greedy") else "eval"
        found |= {
            f"{prefix}_{key}": evaluation.summary["metrics"][key]["mean"] for key in ("accuracy", "thought_tokens")
        }
    return found


def save(engine: Engine, run: Path, step: int) -> None:
    save_checkpoint(run, step, engine.model, engine.chat.tokenizer, engine.optimizer, {"drawn": engine.problems.drawn})


def micro_batches(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Rows of similar length together, each batch at most `tokens` when padded (or one row that is longer alone)."""
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.tokens)):
        if batches and (len(batches[-1]) + 1) * len(row.tokens) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def trained_tokens(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(plus, minus, behaviour, sampled) of the rows' trained tokens, in the order of `row_logprobs`, float32 [T]."""
    parts = [(r.plus[r.trained], r.minus[r.trained], r.behaviour[r.trained], r.sampled[r.trained]) for r in rows]
    plus, minus, behaviour, sampled = (torch.cat(part).to(device) for part in zip(*parts, strict=True))
    return plus.float(), minus.float(), behaviour.float(), sampled


def warm(step: int, train: TrainSection) -> float:
    """Linear warm-up, then constant."""
    return min(1.0, step / train.warmup_steps) if train.warmup_steps else 1.0

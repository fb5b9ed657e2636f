"""A training run from its lock to its comparison, the same whichever engine takes the steps.

The session owns the run directory: it locks it, compares the data, writes what the run is, evaluates both ends, tells
the trackers, and stops in good order. An engine loads and checks what it trains, takes steps, and saves them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from suffice.config import EvalSection, Recipe, TaskSection
from suffice.engines.policy import Policy
from suffice.engines.trackers import Trackers
from suffice.errors import Interrupted, RunError
from suffice.evaluation.compare import compare
from suffice.evaluation.evaluate import evaluate
from suffice.evaluation.local import LocalSource
from suffice.evaluation.source import Sampling
from suffice.evaluation.summary import check_questions
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.model.positions import check_positions
from suffice.rollout import Chat
from suffice.run.directory import Run
from suffice.run.files import read_jsonl, write_jsonl, write_text
from suffice.run.layout import (
    AFTER,
    BEFORE,
    CHOSEN,
    COMPARISON,
    DATA,
    EVALUATIONS,
    GUARD,
    MANIFEST,
    METRICS,
    RECIPE,
    ROLLOUTS,
    greedy,
    is_greedy,
    step_of,
)
from suffice.run.lock import locked
from suffice.run.progress import progress
from suffice.run.records import Comparison, Data
from suffice.run.signals import stop_requests
from suffice.run.start import create_run, manifest
from suffice.tasks import load_task
from suffice.tasks.provenance import check_unchanged, locate_data, overlap_record, pinned

Figures = dict[str, float]
"""Of a step or an evaluation, by name."""
Steps = Generator[tuple[int, Figures], None, None]
"""Each step that was taken, with its figures."""
Stopped = Callable[[], bool]
"""Whether the user asked to stop."""


class Saved(NamedTuple):
    """What an engine finds of a run: its newest good checkpoint, the steps in it, and whether none is to follow."""

    checkpoint: Path | None = None
    steps: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """What an engine may use while it takes steps.

    Args:
        lock: the descriptor that holds the run's lock, for a process that must hold it too.
        evaluate: evaluates a model by `[eval]` under a label.
        tell: says what a step is at.
    """

    lock: int
    stopped: Stopped
    evaluate: Callable[[Policy, str], Figures]
    tell: Callable[[str], None] = lambda note: None


class Training(Protocol):
    """What an engine loaded of a recipe. Loading writes nothing."""

    @property
    def problems(self) -> Sequence[Problem]:
        """Those that are trained on."""

    @property
    def stopped(self) -> bool:
        """Whether the guard stopped it."""

    def policy(self, checkpoint: Path | None = None) -> Policy:
        """The model that a checkpoint holds; by default as it was loaded."""

    def prepare(self, held_out: Sequence[Problem]) -> None:
        """Write what the engine itself needs in the run, unless it is there."""

    def steps(self, session: Session) -> Steps:
        """Take the steps that are left, to the recipe's end or until one of both stops; each with its figures, which
        are logged, before it is saved.

        Raises:
            NonFiniteError, ModelError, RunError: a step failed; what was saved before is whole.
        """

    def keep(self, step: int) -> Path:
        """The checkpoint to keep of a training whose last step this was."""


Find = Callable[[Recipe, Path], Saved]
Load = Callable[[Recipe, Path, Saved, Grader, Stopped], Training]


def train(recipe: Recipe, run: Path, *, find: Find, load: Load, resume: bool = False) -> Path:
    """Train a recipe in a run directory, made here unless it is one already; returns the checkpoint to keep.

    Model and data are loaded and checked before anything is made.
    With `train.eval_every` the model is evaluated before and after, and the two ends compared.
    Resumed, it goes on from the newest good checkpoint, or from step 0 where there is none.

    Args:
        find: the engine's, called for a run that is resumed.
        load: the engine's.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the step was finished and saved.
        RunError: another process works in the run, or its data have changed.
    """
    with ExitStack() as stack:
        begun = (run / RECIPE).exists()
        lock = stack.enter_context(locked(run)) if begun else None
        saved = find(recipe, run) if resume else Saved()
        if saved.over and is_compared(run, recipe):
            print(f"{run} is finished: nothing is left to do", file=sys.stderr)
            return kept_of(run, saved)
        data = locate_data(recipe.task, recipe.eval if recipe.train.eval_every else None)
        check_data(run, data, resume=resume)
        recipe = pinned(recipe, data)
        trackers = stack.enter_context(Trackers(recipe.run.track, recipe.model_dump()))
        grader, stopped = stack.enter_context(Grader()), stack.enter_context(stop_requests())
        training = load(recipe, run, saved, grader, stopped)
        held_out = held_out_of(recipe, training)

        lock = stack.enter_context(made(run, recipe)) if lock is None else lock
        training.prepare(held_out)
        write_origin(run, data, training.problems, held_out)
        forget_after(run, saved.steps, recipe.train.steps)
        trackers.open(run, saved.steps)

        protocol = Sampling.of(recipe.eval, cache_gb=recipe.rollout.cache_gb)
        evaluate_now = partial(evaluate_both, problems=held_out, protocol=protocol, grader=grader, run=run)
        if held_out and saved.steps == 0:
            trackers.log(0, evaluate_now(training.policy(), BEFORE))
        session = Session(lock, stopped, evaluate_now)
        last = take_steps(training, session, trackers, f"train {recipe.method.name}", saved.steps, recipe.train.steps)
        if last < recipe.train.steps and not training.stopped:
            raise Interrupted(f"stopped after step {last}; continue with: suffice train --resume {run}")
        kept = training.keep(last)
        if held_out:
            trackers.log(last, evaluate_now(training.policy(kept), AFTER))
            Run(run).write(compare_ends(Run(run)))
    return kept


def take_steps(training: Training, session: Session, trackers: Trackers, name: str, done: int, steps: int) -> int:
    """Follow an engine's steps after `done`; the last of them."""
    last = done
    with progress(name, steps, done=done) as advance:
        session = replace(session, tell=lambda note: advance(0, note))
        with closing(training.steps(session)) as taken:
            for last, figures in taken:
                trackers.log(last, figures)
                advance(1, f"accuracy {figures['accuracy']:.2f}, thinking tokens {figures['thought_tokens']:.0f}")
    return last


# ------------------------------------------------------------------------------------------------ the directory


def is_compared(run: Path, recipe: Recipe) -> bool:
    """Whether nothing is left to evaluate."""
    return not recipe.train.eval_every or (run / COMPARISON).exists()


def kept_of(run: Path, saved: Saved) -> Path:
    """The checkpoint that a finished run kept: what its guard chose, else the last."""
    assert saved.checkpoint
    return Run(run).chosen_checkpoint() or saved.checkpoint


def check_data(run: Path, data: dict[str, Any], *, resume: bool) -> None:
    """
    Raises:
        RunError: the run was begun with other data, or begun at all and is not to be resumed.
    """
    if not (run / DATA).exists():
        return
    if not resume:
        raise RunError(f"{run} was trained in already; choose another directory, or continue it with --resume {run}")
    check_unchanged(run, data)


@contextmanager
def made(run: Path, recipe: Recipe) -> Iterator[int]:
    """A fresh run directory, locked before anything stands in it.

    Raises:
        RunError: another process began in it since it was looked at.
    """
    create_run(run)
    with locked(run) as lock:
        if (run / RECIPE).exists():
            raise RunError(f"another process began in {run} meanwhile; choose another directory with --out")
        write_text(run / RECIPE, recipe.dump())
        yield lock


def write_origin(run: Path, data: dict[str, Any], problems: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """Where a run came from, unless that is there: it may have been killed before it was."""
    if not (run / MANIFEST).exists():
        Run(run).write(manifest())
    if not (run / DATA).exists():
        Run(run).write(Data(**data, **overlap_record(problems, held_out)))


def forget_after(run: Path, step: int, steps: int) -> None:
    """Drop the log lines and evaluations of steps, of `steps` in all, that a resumed run will do again."""
    for name in (METRICS, ROLLOUTS, GUARD):
        if (run / name).exists():
            write_jsonl(run / name, [line for line in read_jsonl(run / name) if line["step"] <= step])
    folders = [*(run / EVALUATIONS).glob("*")]
    later = [each for each in folders if (step_of(each.name.removesuffix(greedy(""))) or 0) > step]
    if step < steps:
        later += [each for each in folders if each.name in (AFTER, greedy(AFTER))]
        (run / COMPARISON).unlink(missing_ok=True)
        (run / CHOSEN).unlink(missing_ok=True)
    for folder in later:
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------ evaluations


def held_out_of(recipe: Recipe, training: Training) -> list[Problem]:
    """The held-out problems of a run that evaluates."""
    if not recipe.train.eval_every:
        return []
    policy = training.policy()
    return held_out_problems(recipe.eval, recipe.task, policy.model, policy.chat)


def held_out_problems(section: EvalSection, task: TaskSection, model: Any, chat: Chat) -> list[Problem]:
    """The held-out problems of `[eval]`, checked against the model. `[task]` says how the same task is read."""
    same_task = section.task in (None, task.name)
    problems = load_task(
        section.task or task.name,
        path=section.path,
        split=section.split,
        limit=section.problems,
        seed=section.seed,
        fields=task.fields if same_task else None,
        revision=section.revision,
        prompt=task.prompt if same_task else None,
    )
    check_questions(problems)
    budgets = Sampling.of(section)
    check_positions(model, chat, problems, budgets.max_thought_tokens, budgets.max_answer_tokens)
    return problems


def evaluate_both(
    policy: Policy, label: str, *, problems: Sequence[Problem], protocol: Sampling, grader: Grader, run: Path
) -> Figures:
    """The recipe's evaluation, sampled and greedy, written to `evaluations/<label>` and `<label>-greedy`.

    What is there already was written by an earlier process from the same state, and stands.
    """
    policy.model.eval()
    found: Figures = {}
    for name, asked in ((label, protocol), (greedy(label), replace(protocol, temperature=0.0, samples=1))):
        if Run(run).is_evaluated(name):
            evaluation = Run(run).evaluation(name)
        else:
            with policy.precision():
                source = LocalSource(name, policy.model, policy.chat)
                evaluation = evaluate(source, problems, asked, grader, Run(run), name)
        prefix, metrics = "eval_greedy" if is_greedy(name) else "eval", evaluation.summary.metrics
        found |= {
            f"{prefix}_accuracy": metrics.accuracy.mean,
            f"{prefix}_thought_tokens": metrics.thought_tokens.mean,
        }
    return found


def compare_ends(run: Run) -> Comparison:
    """After minus before, sampled (the primary figure) and greedy."""
    before, after = (run.evaluation(label, texts=False) for label in (BEFORE, AFTER))
    cold_before, cold_after = (run.evaluation(greedy(label), texts=False) for label in (BEFORE, AFTER))
    return Comparison(**dict(compare(before, after)), greedy=compare(cold_before, cold_after))

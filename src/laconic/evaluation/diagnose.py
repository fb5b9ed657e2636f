"""How much of its thinking does a model need? The forced-exit curve.

Full thoughts are sampled, cut at fractions of their length, and answered through the inducer. Where the answer is
already right at half the thought, the other half was overthinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from laconic.evaluation.compare import samples
from laconic.evaluation.protocol import LENGTHS, Evaluation, Measure, Protocol, Record, average, share
from laconic.evaluation.statistics import proportion_difference, ratio_change
from laconic.grading import Grader
from laconic.groups import Group, Problem, Spine, Verdict
from laconic.objective.spine import check_model
from laconic.progress import progress
from laconic.rollout import Chat, grade_groups

FRACTIONS = tuple(i / 10 for i in range(11))
TOLERANCE = 0.02  # accuracy that an early stop may cost at the lower end of its interval
WORTH, NOT_WORTH = 0.20, 0.10  # saveable fractions between which the verdict is open


def diagnose(
    model: Any, chat: Chat, problems: Sequence[Problem], protocol: Protocol, grader: Grader, *, model_name: str
) -> Evaluation:
    """The forced-exit curve of a model: records (one a thought, with its exits) and their summary.

    Thoughts are sampled by the protocol. Forced answers are greedy: what the model would most likely say if it had to
    answer now is what it knows, and the noise of one more draw is not.
    """
    sampler = replace(protocol.sampler(model, chat), answer_temperature=0.0, reuse=fits(model))
    with progress(f"diagnose {model_name}", len(problems) * protocol.samples) as advance:
        groups = sampler.groups(
            problems,
            protocol.samples,
            f"diagnose/{protocol.seed}",
            exits=lambda spine, key: sorted(set(cuts(spine).values())),
            advance=advance,
        )
    grade_groups(groups, chat, grader)
    records = [record(group, k, spine, chat) for group in groups for k, spine in enumerate(group.spines)]
    header = {"model": model_name, "task": problems[0].task}
    return Evaluation(
        records, header | {"protocol": {"problems": len(problems), **asdict(protocol)}} | summarise(records)
    )


def fits(model: Any) -> bool:
    """Whether early answers may be decoded from their thought's keys and values; they are the same either way."""
    try:
        check_model(model)
    except ValueError:
        return False
    return True


def cuts(spine: Spine) -> dict[float, int]:
    """Thought tokens kept at each fraction of the curve."""
    return {fraction: round(fraction * spine.thought_length) for fraction in FRACTIONS}


def record(group: Group, sample: int, spine: Spine, chat: Chat) -> Record:
    """One thought and what was answered at its exits.

    `sufficient` is the smallest fraction from which every forced answer is right, for a thought whose own answer is
    right (1.0 if only the whole will do); None for a wrong one.
    """
    verdicts = {branch.exit: branch.verdict for branch in spine.branches}
    exits = [{"fraction": f, "exit": exit, "verdict": str(verdicts[exit])} for f, exit in cuts(spine).items()]
    sufficient = None
    if spine.verdict is Verdict.CORRECT:
        late_wrong = [i for i, exit in enumerate(exits) if exit["verdict"] != Verdict.CORRECT]
        sufficient = FRACTIONS[min(late_wrong[-1] + 1, len(FRACTIONS) - 1)] if late_wrong else 0.0
    thought = spine.tokens[spine.thought_start : spine.thought_end]
    kept = None if sufficient is None else cuts(spine)[sufficient]
    return {
        "problem": group.problem.id,
        "difficulty": group.problem.difficulty,
        "sample": sample,
        "thought_tokens": spine.thought_length,
        "full_verdict": str(spine.verdict),
        "exits": exits,
        "sufficient": sufficient,
        "saveable_tokens": 0 if kept is None else spine.thought_length - kept,
        "prompt": group.problem.prompt,
        "gold": group.problem.gold,
        "thought": chat.text(thought),
        "sufficient_text": None if kept is None else chat.text(thought[:kept]),
        "answer": chat.answer_text(spine.answer_tokens),
    }


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Curve, full accuracy, what could be saved at no loss, and a verdict in one sentence."""
    right = [r for r in records if r["sufficient"] is not None]
    needed = ratio_change(
        samples(records, lambda r: r["thought_tokens"] - r["saveable_tokens"]),
        samples(records, lambda r: r["thought_tokens"]),
    )
    saveable = {"mean": -needed.mean, "low": -needed.high, "high": -needed.low}
    safe = safe_fraction(records)
    return {
        "curve": [
            {
                "fraction": fraction,
                "accuracy": share(records, right_at(i)),
                "thought_tokens": sum(r["exits"][i]["exit"] for r in records) / len(records),
            }
            for i, fraction in enumerate(FRACTIONS)
        ],
        "full": {
            "accuracy": share(records, right_in_full),
            "thought_tokens": average(records, LENGTHS["thought_tokens"]),
        },
        "sufficient_fraction": average(right, lambda r: r["sufficient"]),
        "saveable_fraction": saveable,
        "saveable_tokens": average(records, lambda r: r["saveable_tokens"]),
        "safe_fraction": safe,
        "verdict": sentence(saveable, safe),
        "worth_training": saveable["low"] >= WORTH,
    }


def right_at(i: int) -> Measure:
    """Whether the answer forced at the i-th fraction is right."""
    return lambda r: r["exits"][i]["verdict"] == Verdict.CORRECT


def right_in_full(r: Record) -> bool:
    return bool(r["full_verdict"] == Verdict.CORRECT)


def safe_fraction(records: Sequence[Record]) -> float | None:
    """The smallest fraction at which stopping EVERY thought costs at most `TOLERANCE`, 95 % sure; None if none does."""
    full = samples(records, right_in_full)
    for i, fraction in enumerate(FRACTIONS):
        if proportion_difference(samples(records, right_at(i)), full).low >= -TOLERANCE:
            return fraction
    return None


def sentence(saveable: dict[str, float], safe: float | None) -> str:
    share = (
        f"{saveable['mean']:.0%} of the thinking tokens (95 % interval {saveable['low']:.0%} to {saveable['high']:.0%})"
    )
    said = f"{share} come after the answer is settled"
    if safe is not None and safe < 1:
        said += f", and stopping every thought at {safe:.0%} would cost at most {TOLERANCE:.0%} accuracy"
    if saveable["low"] >= WORTH:
        return f"Worth training: {said}."
    if saveable["high"] < NOT_WORTH:
        return f"Not worth training: only {said}."
    return f"Perhaps worth training: {said}; measure more problems to be sure."

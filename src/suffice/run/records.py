"""What the files of a run directory hold. Whoever writes one and whoever reads it use the same class.

A field that is not known may change what another one means, so it is refused. A field that was not given is not
written; one that is known to be nothing is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PlainSerializer, PositiveInt

from suffice.groups import Kind, Verdict
from suffice.interval import UNKNOWN, Interval
from suffice.run import layout


class Record(BaseModel):
    """Any of them. `FILE` is where it stands, alone or as a line; parts of other records have none."""

    FILE: ClassVar[str]
    model_config = ConfigDict(extra="forbid", frozen=True)

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return self.model_dump(exclude_unset=True)


def _read_interval(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {"mean" if key == "difference" else key: nan if end is None else end for key, end in value.items()}


Estimate = Annotated[Interval, BeforeValidator(_read_interval), PlainSerializer(Interval.as_dict)]
"""A mean as `{"mean", "low", "high"}`, with its question-clustered 95 % interval."""
Difference = Annotated[
    Interval, BeforeValidator(_read_interval), PlainSerializer(lambda interval: interval.as_dict("difference"))
]
"""A paired difference, the other minus the first, as `{"difference", "low", "high"}`."""
Number = Annotated[int | float, BeforeValidator(lambda value: nan if value is None else value)]
"""NaN where it was not measured."""


# ------------------------------------------------------------------------------------------- where a run came from


class Manifest(Record):
    """`manifest.json`: what made the run."""

    FILE = layout.MANIFEST

    suffice: str
    torch: str
    transformers: str
    python: str
    git: str | None = Field(description="Revision of the working folder, if it is a checkout.")
    command: list[str]
    created: str = Field(description="Time in UTC, ISO 8601.")


class Origin(Record):
    """Where problems came from, so that they can be had again: the hub at a commit, or a file by its content."""

    task: str
    split: str | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    path: str | None = None
    sha256: str | None = None


class Overlap(Record):
    """What evaluation problems share with training problems: a passage of so many `words`, or the whole text (null)."""

    words: PositiveInt | None
    problems: dict[Literal["train", "eval"], NonNegativeInt]
    count: NonNegativeInt = Field(description="Evaluation problems that share something.")
    share: float = Field(ge=0, le=1)
    first: list[dict[Literal["train", "eval"], str]] = Field(description="Some pairs of ids.")


class Data(Record):
    """`data.json` of a training run."""

    FILE = layout.DATA

    train: Origin
    eval: Origin | None = None
    overlap: Overlap | None = None


# ------------------------------------------------------------------------------------------------------- training


class Step(Record):
    """A line of `metrics.jsonl`. Means are over the step's full rollouts unless said; what a method adds is its own."""

    FILE = layout.METRICS
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number]

    step: PositiveInt
    accuracy: Number = Field(nan, description="0…1.")
    thought_tokens: Number = nan
    answer_tokens: Number = nan
    unclosed: Number = Field(nan, description="Share of thoughts that never closed, 0…1.")
    unclosed_tokens: Number = Field(nan, description="Of thoughts that never closed, a thought of all.")
    looping: Number = Field(nan, description="Share of thoughts whose end is a loop, 0…1.")
    loop_tokens: Number = Field(nan, description="That only repeat, a thought of all.")
    truncated: Number = Field(nan, description="Share that a limit cut, 0…1.")
    unparsed: Number = Field(nan, description="Share of answers that could not be read, 0…1.")
    repetition: Number = Field(nan, description="Share of a thought's passages that it holds already, 0…1.")
    exit_accuracy: Number = Field(nan, description="Of branches, 0…1.")
    exit_truncated: Number = Field(nan, description="Of branches, 0…1.")
    failed: int = Field(0, description="Members whose sampling failed.")
    groups: int = Field(0, description="Trained on.")
    dropped: int = Field(0, description="Groups without a signal.")
    reward: Number = Field(nan, description="Mean over members.")
    tokens_train: int = Field(0, description="Pushed through the trainer.")
    tokens_rows: int = Field(0, description="What rows would have pushed, where verl's update is in the spine layout.")
    advantage: Number = Field(nan, description="Mean absolute value over members.")
    loss: Number = nan
    grad_norm: Number = Field(nan, description="Before it is clipped.")
    entropy: Number = Field(nan, description="Nats a token; on verl by −log-prob of what was sampled.")
    clip_fraction: Number = Field(nan, description="Share of tokens whose ratio is clipped, 0…1.")
    mismatch: Number = Field(nan, description="Mean |log-prob of the trainer − of the sampler|, nats.")
    learning_rate: Number = nan
    tokens_prefill: int = Field(0, description="Of prompts, thoughts and inducers, pushed through the sampler.")
    tokens_cached: int = Field(0, description="The same, found in a server's cache instead.")
    tokens_decode: int = Field(0, description="Generated.")
    seconds_rollout: Number = nan
    seconds_update: Number = nan
    seconds: Number = nan
    eval_accuracy: Number = Field(nan, description="Held-out, where the step was evaluated, 0…1.")
    eval_thought_tokens: Number = nan
    eval_greedy_accuracy: Number = Field(nan, description="0…1.")
    eval_greedy_thought_tokens: Number = nan
    tokens_guard: int = Field(0, description="Pushed and generated by the guard's probe.")
    rolled_back_to: int | None = Field(None, description="The step whose model the guard put back.")

    def figures(self) -> dict[str, float]:
        """All that was recorded but the number of the step, by name."""
        return {name: value for name, value in self.as_dict().items() if name != "step"}


class ShownExit(Record):
    """A branch as text: the answer after `exit` thought tokens, or the probability of the gold one."""

    exit: NonNegativeInt
    answer: str
    verdict: Verdict | None
    value: Number | None = Field(None, description="0…1; then no answer was sampled.")


class ShownSpine(Record):
    """A full rollout as text."""

    thought: str
    answer: str
    verdict: Verdict | None
    exits: list[ShownExit]


class ShownGroup(Record):
    """A line of `rollouts.jsonl` (some groups of each step) and `non-finite.jsonl` (those whose gradient was not)."""

    FILE = layout.ROLLOUTS

    step: PositiveInt
    problem: str
    prompt: str
    gold: str
    spines: list[ShownSpine]


class GuardLine(Record):
    """A line of `guard.jsonl`: an alarm, or a probe of the model on the problems set aside for it, or both."""

    FILE = layout.GUARD

    step: NonNegativeInt = Field(description="0: the base.")
    action: Literal["go", "warn", "stop", "roll back"]
    reason: str = Field(description="One sentence; empty where nothing speaks against going on.")
    score: float | None = Field(description="Risk of a collapse, 0…1; null in the first steps.")
    accuracy: Number = Field(nan, description="Of the probe, 0…1.")
    thought_tokens: Number = Field(nan, description="Of the probe, mean.")
    tokens_guard: int = Field(0, description="Pushed and generated by the probe.")
    rolled_back_to: NonNegativeInt | None = None
    learning_rate: Number = Field(nan, description="After rolling back.")


class Chosen(Record):
    """`chosen.json`: the checkpoint that the guard chose to keep."""

    FILE = layout.CHOSEN

    step: NonNegativeInt = Field(description="0: the base.")
    path: str = Field(description="In the run; of the base its own.")
    accuracy: float = Field(description="Of its probe, 0…1.")
    change: Difference | None = Field(None, description="Of its probe's accuracy from the base's, paired.")
    thought_tokens: float = Field(description="Of its probe, mean.")
    rule: str = Field(description="What it was chosen by.")

    @property
    def words(self) -> str:
        if self.step == 0:
            return f"the base, {self.path}: the guard found no checkpoint that is shorter and as accurate"
        return f"step {self.step}, which the guard chose"


# ------------------------------------------------------------------------------------------------------ evaluation


class Protocol(Record):
    """How a model was sampled."""

    problems: PositiveInt
    samples: PositiveInt = Field(description="A problem.")
    temperature: float = Field(ge=0, description="0 is greedy.")
    top_p: float = Field(gt=0, le=1)
    max_thought_tokens: PositiveInt
    max_answer_tokens: PositiveInt
    seed: int
    cache_gb: float = Field(description="Bound on keys and values; decides nothing that is found.")
    top_k: NonNegativeInt = Field(0, description="Most likely tokens that are sampled from; 0: all.")
    min_p: float = Field(0.0, ge=0, le=1, description="Least probability sampled, as a part of the largest.")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="Off the logits of tokens sampled before.")
    name: str | None = Field(None, description="Of the published protocol that all this follows, if one was asked for.")

    def facts(self) -> list[tuple[str, Any]]:
        """What there is to say of it, by field."""
        return [(name, value) for name, value in self.as_dict().items() if value is not None]


class Sample(Record):
    """A line of an evaluation's `records.jsonl`. Token counts leave out the marks of thought and turn."""

    problem: str
    difficulty: str | None
    sample: NonNegativeInt = Field(description="Its number among those of the problem, from 0.")
    verdict: Verdict
    thought_tokens: NonNegativeInt
    answer_tokens: NonNegativeInt
    closed: bool = Field(description="Whether the thought ended by itself.")
    truncated: bool = Field(description="Whether a limit cut it.")
    prompt: str
    kind: Kind = "math"
    gold: str
    thought: str
    answer: str
    trial_tokens: NonNegativeInt = Field(0, description="Of answers that a stop tried and threw away.")


class Figures(Record):
    """What samples came to: shares of them in 0…1, and mean tokens."""

    accuracy: Estimate
    truncated: Estimate
    unclosed: Estimate
    unclosed_tokens: Estimate = Field(UNKNOWN, description="Thinking tokens of those thoughts, a sample of all.")
    looping: Estimate = Field(UNKNOWN, description="Thoughts whose end is a loop (`suffice.loops`).")
    loop_tokens: Estimate = Field(UNKNOWN, description="Thinking tokens that only repeat, a sample of all.")
    unparsed: Estimate
    thought_tokens: Estimate
    answer_tokens: Estimate
    tokens: Estimate = Field(description="All that were generated: thought, answer and trials.")


class Together(Record):
    """What `k` samples of a question come to together, by the unbiased estimators over all subsets of k."""

    k: int = Field(ge=2)
    any_correct: Estimate = Field(description="That any of them is right: pass@k.")
    all_correct: Estimate = Field(description="That all of them are right.")


class Metrics(Figures):
    """The figures of an evaluation."""

    thought_tokens_correct: Estimate = Field(description="Over right samples alone.")
    thought_tokens_wrong: Estimate = Field(UNKNOWN, description="Over samples that are not right.")
    together: list[Together] = Field([], description="For k = 2, 4, 8, … and all samples of a question.")


class AtBudget(Record):
    """What a limit on thinking tokens would leave: longer thoughts are cut and wrong."""

    budget: PositiveInt
    accuracy: Estimate
    thought_tokens: Estimate


class AtBudgets(Record):
    """Accuracy by thinking budget, read off the samples of an evaluation."""

    limit: PositiveInt = Field(description="Largest budget.")
    curve: list[AtBudget]
    area: Estimate = Field(description="Mean accuracy over all budgets from 0 to the limit.")


class Level(Record):
    """The part of an evaluation that has one difficulty."""

    problems: PositiveInt
    accuracy: Estimate
    thought_tokens: Estimate


StopKind = Literal["budget", "inducer", "deer"]


class Stop(Record):
    """How an evaluation was stopped early without training: at a `budget` of thought tokens, or by a `threshold`."""

    kind: StopKind
    budget: PositiveInt | None = None
    threshold: float | None = Field(None, ge=0, le=1, description="Confidence from which the answer is given.")

    @property
    def parameter(self) -> float | None:
        return self.threshold if self.budget is None else self.budget

    @property
    def label(self) -> str:
        return f"{self.kind}-{self.parameter}"


class Stopped(Record):
    """All thoughts stopped by one rule, against the same thoughts as they were."""

    rule: str = Field(description="In words.")
    budget: PositiveInt | None = Field(None, description="Thought tokens, where that is the rule.")
    accuracy: Difference
    changed: NonNegativeInt = Field(description="Questions whose accuracy it changes.")
    thought_tokens: float = Field(ge=0, description="A thought, mean.")
    saved_tokens: Estimate = Field(description="A thought; of an evaluation with answers and trials.")
    saved_fraction: Estimate = Field(description="Of the tokens as they were.")


class BudgetAdvice(Record):
    """The smallest thinking budget that surely costs no more than so many points of accuracy."""

    points: float = Field(ge=0, description="Of accuracy that may be lost at the lower end of the interval.")
    longest: NonNegativeInt | None = Field(description="Thought, in tokens; null over several tasks.")
    thought_tokens: float = Field(ge=0, description="A thought as it is, mean.")
    budgets: list[Stopped] = Field(description="All that were weighed, rising.")
    recommended: Stopped | None = Field(description="Null: no budget is safe.")
    others: list[Stopped] = Field([], description="Other ways to shorten: an exit when sure, a trained model.")
    price: float | None = Field(None, description="Of a million generated tokens.")
    speed: float | None = Field(None, description="Tokens a second that one request gets.")
    sentence: str


class Summary(Record):
    """What every summary says of where its records come from."""

    FILE = layout.SUMMARY

    model: str
    task: str
    token_counts: Literal["tokenizer", "server", "characters", "recorded"] = Field(
        description="By whom tokens were counted; `characters`: the server's count, shared out; `recorded`: elsewhere."
    )
    doubts: list[str] = Field([], description="What of the samples should make one doubt the figures, and what to do.")


class EvaluationSummary(Summary):
    """`evaluations/<label>/summary.json`."""

    protocol: Protocol
    metrics: Metrics
    levels: dict[str, Level] = Field(description="By difficulty.")
    at_budgets: AtBudgets | None = Field(None, description="Null where a stop has ended the thoughts already.")
    seconds: float | None = Field(None, ge=0, description="That it took, where it was not interrupted.")
    variant: Stop | None = None
    budget: BudgetAdvice | None = Field(None, description="What to serve, where budgets were measured.")


# ------------------------------------------------------------------------------------------------------- diagnosis


class Exit(Record):
    """What the model answered when its thought was cut after `exit` tokens, a `fraction` of it (0…1)."""

    fraction: float = Field(ge=0, le=1)
    exit: NonNegativeInt
    verdict: Verdict = Field(description="UNPARSED where there is no answer.")
    answer: str | None = Field(None, description="Of recorded exits; null where there is no answer.")
    confidence: float | None = Field(None, description="Of sampled exits, 0…1; null where a server does not tell.")


class CutThought(Record):
    """A line of a diagnosis' `records.jsonl`: one thought, and what was answered at its exits, in their order."""

    problem: str
    difficulty: str | None
    sample: NonNegativeInt
    thought_tokens: NonNegativeInt
    closed: bool | None = Field(None, description="Whether the thought ended by itself; null where that is not known.")
    full_verdict: Verdict = Field(description="Of its own answer.")
    exits: list[Exit]
    sufficient: float | None = Field(
        ge=0, le=1, description="Smallest fraction from which on every forced answer is right; null if it ended wrong."
    )
    saveable_tokens: NonNegativeInt = Field(description="That lie after it; 0 if it ended wrong.")
    prompt: str
    gold: str
    thought: str
    sufficient_text: str | None = Field(description="The thought up to there.")
    answer: str
    subject: str | None = None


class CurvePoint(Record):
    """All thoughts cut at one fraction."""

    fraction: float = Field(ge=0, le=1)
    accuracy: Estimate
    thought_tokens: float = Field(ge=0, description="Kept, mean.")
    lost: Estimate = Field(description="Share that is right here and wrong in full.")
    mended: Estimate = Field(description="Share that is wrong here and right in full.")


class Full(Record):
    """All thoughts as they were."""

    accuracy: Estimate
    thought_tokens: Estimate


class Saving(Record):
    """What of the thought tokens could be saved by stopping alone, by one who knows the right answer. Parts in 0…1."""

    saveable_right: Estimate = Field(
        UNKNOWN, description="Saveable tokens as a part of those of thoughts that ended right."
    )
    first_right: Estimate = Field(
        UNKNOWN,
        description="Tokens after the FIRST right forced answer of a thought that ended right, as a part of all.",
    )
    first_right_right: Estimate = Field(
        UNKNOWN, description="The same as a part of those of thoughts that ended right."
    )
    luck: Estimate = Field(
        UNKNOWN, description="Share of thoughts whose forced answer was right at one exit and wrong at a later one."
    )


class Part(Saving):
    """The part of a diagnosis that has one pass rate, level or subject."""

    problems: PositiveInt
    accuracy: Estimate
    thought_tokens: Estimate
    saveable_fraction: Estimate


class DiagnosisSummary(Summary, Saving):
    """`diagnosis/<label>/summary.json`."""

    protocol: Protocol | None = Field(description="Null where exits were recorded elsewhere.")
    curve: list[CurvePoint]
    full: Full
    lost: Estimate = Field(description="Share of thoughts that were right at any point and ended wrong.")
    unclosed: Estimate = Field(UNKNOWN, description="Share of thoughts that never closed.")
    unclosed_tokens: Estimate = Field(UNKNOWN, description="Tokens of those, a thought of all.")
    looping: Estimate = Field(UNKNOWN, description="Share of thoughts whose end is a loop (`suffice.loops`).")
    loop_tokens: Estimate = Field(UNKNOWN, description="Tokens that only repeat, a thought of all.")
    sufficient_fraction: Estimate = Field(description="Mean over thoughts that ended right.")
    saveable_fraction: Estimate = Field(description="Saveable tokens as a part of all thought tokens.")
    saveable_tokens: Estimate = Field(description="A thought.")
    safe_fraction: float | None = Field(ge=0, le=1, description="At which every thought may be stopped; null: none.")
    conclusion: str = Field(description="One sentence.")
    worth_training: bool
    saveable_cost: Estimate | None = Field(None, description="Per 1,000 answers, in the currency of the price given.")
    parts: dict[str, dict[str, Part]] = Field({}, description="By pass rate, level and subject, where there are some.")
    budget: BudgetAdvice | None = Field(None, description="What to serve.")


# ------------------------------------------------------------------------------------------------------ comparison


class Change(Record):
    """An evaluation less another of the same questions, last as a part of the other's mean (−0.4: 40 % less)."""

    accuracy: Difference
    thought_tokens: Difference
    answer_tokens: Difference
    tokens: Difference
    unclosed: Difference = Field(UNKNOWN, description="Share of thoughts that never closed.")
    unclosed_tokens: Difference = Field(UNKNOWN, description="Thinking tokens of those, a sample of all.")
    looping: Difference = Field(UNKNOWN, description="Share of thoughts whose end is a loop.")
    loop_tokens: Difference = Field(UNKNOWN, description="Thinking tokens that only repeat, a sample of all.")
    thought_tokens_change: Estimate
    tokens_change: Estimate


class Scores(Record):
    """Accuracy and tokens in one number, each against the first model; docs/evaluate.md says what each is worth."""

    level: float = Field(ge=0, le=1, description="Accuracy of the less accurate model.")
    equal_accuracy: Estimate = Field(
        description="Generated tokens as a part of the first's, both cut at the smallest budget with that accuracy."
    )
    area: Difference = Field(description="Of the areas under accuracy by thinking budget.")
    aes: Estimate = Field(description="Accuracy-efficiency score of O1-Pruner.")
    e3: Estimate = Field(description="E3-Score; 1 is as good as the first.")


class Comparison(Change):
    """`comparison.json` of a training run: after less before, sampled; `greedy` the same for greedy answers."""

    FILE = layout.COMPARISON

    greedy: Change

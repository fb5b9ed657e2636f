"""What a run will take, by arithmetic alone: tokens, memory of a GPU, hours. Nothing is loaded and nothing is measured.

A recipe and a model's shape give the tokens; tokens give operations and bytes; a GPU's data sheet and the shares of it
that software reaches give seconds. Every share is a field of `Assumptions` or `Speed` and is shown beside the result:
read it as the order of a bill, not as the bill.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from suffice.config import LOOK_AT, LOOK_EVERY, MICRO_BATCH, Recipe
from suffice.devices import GIB, SPEEDS, Device, Speed
from suffice.model.shape import Shape

VARIATION = 0.25  # of lengths: variance / mean²


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Mean tokens of a problem's parts, those of the longest prompt, and the headroom of memory (context, fragments) in
    GiB."""

    thought: float
    answer: float
    prompt: float
    longest_prompt: int
    inducer: int = 13
    headroom: float = 3.0

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        mean_thought: float | None = None,
        prompts: tuple[float, int] = (256, 256),
        inducer: int | None = None,
    ) -> Assumptions:
        """Thoughts of half their budget, prompts of 256 tokens (mean and longest) and inducers of 13, unless said;
        answers of 480, as in S-GRPO's Fig. 4, or of half a budget below 960."""
        most, answer = recipe.rollout.max_thought_tokens, recipe.rollout.max_answer_tokens
        return cls(mean_thought or most / 2, 480.0 if answer >= 960 else answer / 2, *prompts, inducer or 13)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one step, over all its problems; groups that a refill replaces are not counted.

    `sampled` are decoded, `prefilled` pushed at rollout (prompts once a problem, inducers once a branch, since prefixes
    are cached); `pushed`, `pairs` and `scored` are the update's, in the layout of its engine.
    """

    sampled: float
    prefilled: float
    pushed: float
    pairs: float
    scored: float


def tokens_of(recipe: Recipe, a: Assumptions, layout: str, *, apart: bool = False) -> Tokens:
    """As if every thought had the mean length n, and exits lay uniformly in it. Where only the decision to stop is
    trained, branches push nothing: their spine predicts it.

    With `apart` every spine has a prompt of its own, as on verl, and the prompt below counts K times.

    With P problems, K spines, m exits, s = prompt + n + answer and b = inducer + answer:

        rows     pushed P·K·(s + m·(prompt + n/2 + b)),  pairs P·K·(s²/2 + m·(c² + c·n + n²/3)/2),  c = prompt + b
        spine    pushed P·(prompt + K·(n + answer + m·b)),  pairs P·K·(s²/2 + m·(b·(prompt + n/2) + b²/2))
    """
    P, K, m = recipe.train.problems_per_step, recipe.group.spines, recipe.group.exits
    n, spine, branch = a.thought, a.prompt + a.thought + a.answer, a.inducer + a.answer
    decision, gold = recipe.objective.train_on == "decision", recipe.rollout.answers == "gold"
    read = a.answer if gold else 0.0  # gold answers are pushed instead of being sampled
    inducers = a.inducer if recipe.objective.train_on == "all" else 0
    if decision and layout == "spine":
        pushed = P * (a.prompt + K * (n + a.answer + read))
        pairs = P * K * spine**2 / 2
        scored = P * K * (m + a.answer + (n if recipe.objective.kl else 0))
    elif layout == "spine":
        pushed = P * (a.prompt * (K if apart else 1) + K * (n + a.answer + m * branch))
        pairs = P * K * (spine**2 / 2 + m * (branch * (a.prompt + n / 2) + branch**2 / 2))
        scored = P * K * (n + a.answer + m * (a.answer + inducers))
    else:
        cut = a.prompt + branch
        pushed = P * K * (spine + m * (cut + n / 2))
        pairs = P * K * (spine**2 / 2 + m * (cut**2 + cut * n + n**2 / 3) / 2)
        scored = P * K * (n + a.answer + m * (n / 2 + a.answer + inducers))
    return Tokens(
        sampled=P * K * (n + (1 if gold else m + 1) * a.answer),
        prefilled=P * (a.prompt + K * (m * (a.inducer + read) + read)),
        pushed=pushed,
        pairs=pairs,
        scored=scored,
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one GPU, in GiB. The sampler's weights and cache and the update's activations and logits take turns; weights,
    gradients and moments are there in both turns, or only in the update's (`offload` of the recipe's cluster).
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    sampler: float
    cache: float
    headroom: float
    takes_turns: bool = False

    @property
    def trained(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def needed(self) -> float:
        update, rollout = self.trained + self.activations + self.logits, self.sampler + self.cache
        return max(update, rollout + (0.0 if self.takes_turns else self.trained)) + self.headroom


def memory_of(recipe: Recipe, shape: Shape, engine: str, gpus: int, a: Assumptions, width: int = 2) -> Memory:
    """Full training keeps float32 weights (4 bytes a parameter), gradients (4) and AdamW's moments (8), with verl
    sharded over a node's GPUs; LoRA those three for the adapters, and the weights in bfloat16, with verl in float32,
    since its shards hold one type. Locally, autocast adds a bfloat16 copy of the weights. Where verl keeps all of it in
    the host's memory, a GPU holds the layer at work and the head: in bfloat16, with a gradient in float32.
    The micro-batch is as long as its budget or one group, whichever is longer. Thoughts that are held to the base need
    its weights too.

    Logits: locally chunks of 2²⁶ in four float32 copies; with verl the micro-batch's in 8 bytes each. Keys and values:
    `rollout.cache_gb`; locally no more than all rows can fill, but twice that, since buffers grow by doubling.
    """
    rank, rollout = recipe.model.lora, recipe.rollout
    trained = shape.adapters(rank) if rank else shape.parameters
    shards, cluster = (gpus // recipe.cluster.nodes if engine == "verl" else 1), recipe.cluster
    weights: float
    gradients: float = 4 * trained
    moments = 8 * trained
    if engine == "verl" and cluster.offload == "always":
        at_work = shape.weights(shape.experts) / shape.layers + (shape.head if shape.tied else 2 * shape.head)
        weights, gradients, moments, shards = 2 * at_work, min(gradients, 4 * at_work), 0, 1
    elif rank:
        weights = (4 if engine == "verl" else width) * shape.parameters + 4 * trained
    elif engine == "local":
        weights = 6 * trained if width == 2 else 4 * trained
    else:
        weights = 4 * trained
    if recipe.objective.kl:  # the base beside it
        weights += (width if rank else 4) * shape.parameters
    group = longest = a.longest_prompt + rollout.max_thought_tokens + rollout.max_answer_tokens
    rows, kept = recipe.train.problems_per_step * recipe.group.spines, width // 2 * shape.cache_bytes
    if recipe.objective.layout == "spine" and engine == "local":
        own = recipe.group.exits * (a.inducer + rollout.max_answer_tokens)
        group = a.longest_prompt + recipe.group.spines * (longest - a.longest_prompt + own)
    micro_batch = max(recipe.train.micro_batch_tokens or MICRO_BATCH, group)
    logits = 8 * micro_batch * shape.vocabulary if engine == "verl" else 16 * min(2**26, micro_batch * shape.vocabulary)
    a_token = shape.activation_bytes(1, checkpointing=recipe.model.gradient_checkpointing, width=width)
    return Memory(
        weights=weights / shards / GIB,
        gradients=gradients / shards / GIB,
        optimizer=moments / shards / GIB,
        activations=a_token * micro_batch / GIB,
        logits=logits / GIB,
        sampler=(2 * shape.parameters / cluster.tensor_parallel / GIB) if engine == "verl" else 0.0,
        cache=rollout.cache_gb if engine == "verl" else 2 * min(rollout.cache_gb, rows * longest * kept / GIB),
        headroom=a.headroom,
        takes_turns=engine == "verl" and cluster.offload == "rollout",
    )


def pass_seconds(shape: Shape, device: Device, speed: Speed, rows: float, context: float, width: int = 2) -> float:
    """Of one decoding pass of `rows` rows with `context` tokens behind each: the longer of reading all weights and
    every row's keys and values, each number `width` bytes, and of the operations, plus what a pass costs anyway."""
    read = width * (shape.read(rows) + shape.head + rows * context * shape.cache_bytes / 2)
    work, rate = shape.flops(rows, rows * context, rows), device.few_rows or device.flops
    return speed.pass_seconds + max(read / (device.bandwidth * speed.bandwidth), work / (rate * speed.flops))


def served_seconds(
    shape: Shape,
    device: Device,
    speed: Speed,
    *,
    rows: float,
    mean: float,
    longest: float,
    prompt: float,
    cache: float,
    branched: float = 0.0,
    kept: float = 0.0,
) -> float:
    """Of one GPU of a server with `cache` bytes of keys and values that samples `rows` rows of `mean` tokens, the
    longest `longest`, and meanwhile `branched` tokens of branches that see `kept` tokens each.

    A row that runs holds (1 + VARIATION)·mean/2 tokens on average. Passes number as many as the longest row has tokens,
    or, with more rows than fit, rows·mean/slots and half of the longest for the end, when slots stand empty.
    """
    context = prompt + (1 + VARIATION) * mean / 2
    slots = max(1.0, min(rows, cache / (context * shape.cache_bytes)))
    passes = max(longest, rows * mean / slots + longest / 2)
    tokens = rows * mean + branched
    seen = (rows * mean * context + branched * kept) / tokens
    return passes * pass_seconds(shape, device, speed, tokens / passes, seen)


def local_seconds(
    shape: Shape,
    device: Device,
    speed: Speed,
    *,
    rows: float,
    mean: float,
    longest: float,
    prompt: float,
    cache: float,
    exits: int = 0,
    answer: float = 0.0,
    most: float = 0.0,
    width: int = 2,
) -> float:
    """Of the local sampler: as many places as have room should every row be as long as `longest` after a prompt of
    `prompt`; rows that wait take the places of those that end, so that passes number as in `served_seconds`. Branches,
    `exits` a row, answer with `answer` tokens and at most `most`, those of all places together; their spines' keys and
    values are held twice."""
    held = (prompt + longest) * shape.cache_bytes * width / 2 * (2 if exits else 1)
    places = min(rows, max(1, cache // held))
    passes = longest if rows <= places else max(longest, rows * mean / places + longest / 2)
    seconds = passes * pass_seconds(shape, device, speed, rows * mean / passes, prompt + longest / 2, width)
    if exits:
        times, branches, seen = math.ceil(rows / places), places * exits * answer / most, prompt + mean / 2
        seconds += times * most * pass_seconds(shape, device, speed, branches, seen, width)
    return seconds


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole run. Tokens and seconds are of one step, hours of the run, GiB of one GPU; `checkpoints_gib` is what
    the disk must hold at the end. Pass rates are None where `task.limit` does not say of how many problems. An
    evaluation of all problems of its task counts as one of 500."""

    engine: str
    device: str
    gpus: int
    parameters: int
    assumptions: Assumptions
    tokens: Tokens
    memory: Memory
    seconds_rollout: float
    seconds_update: float
    hours_steps: float
    hours_evaluation: float
    hours_pass_rates: float | None
    checkpoints_gib: float

    @property
    def gpu_hours(self) -> float:
        """Of the steps and the evaluations, which take one GPU while the others are held; pass rates come before."""
        return (self.hours_steps + self.hours_evaluation) * self.gpus

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["memory"]["needed"] = self.memory.needed
        return found | {"gpu_hours": self.gpu_hours}


def engine_of(recipe: Recipe) -> str:
    """`verl` where a recipe asks for GPUs, were it one, else `local`."""
    return "verl" if recipe.cluster.nodes > 1 or recipe.cluster.gpus else "local"


def layout_of(recipe: Recipe) -> str:
    """Of the update, were it one."""
    return recipe.layout_on_verl if engine_of(recipe) == "verl" else recipe.objective.layout


def width_of(recipe: Recipe, device: Device) -> int:
    """Bytes of a number that passes are computed in: 4 on a CPU, else 2, unless the recipe says which."""
    return {"auto": 4 if device.name == "cpu" else 2, "float32": 4, "bfloat16": 2}[recipe.model.dtype]


def estimate(
    recipe: Recipe,
    shape: Shape,
    device: Device,
    *,
    mean_thought: float | None = None,
    prompts: tuple[float, int] = (256, 256),
    inducer: int | None = None,
    tokens_per_second: float | None = None,
) -> Estimate:
    """What a recipe will take on devices of one kind.

    Args:
        mean_thought: tokens of a thought; default: half of its budget.
        prompts: tokens of the mean and of the longest prompt.
        inducer: tokens of the inducer; default: 13.
        tokens_per_second: sampled by one GPU, if known; else from its bandwidth (`pass_seconds`).
    """
    name, a = engine_of(recipe), Assumptions.of(recipe, mean_thought, prompts, inducer)
    gpus = recipe.cluster.nodes * max(1, recipe.cluster.gpus) if name == "verl" else 1
    tokens = tokens_of(recipe, a, layout_of(recipe), apart=name == "verl")
    local = SPEEDS["cpu"] if device.name == "cpu" else SPEEDS["local"]
    speed, cache = SPEEDS["verl"] if name == "verl" else local, recipe.rollout.cache_gb * GIB
    train, rollout, held_out, width = recipe.train, recipe.rollout, recipe.eval, width_of(recipe, device)

    def reading(read: float, speed: Speed) -> float:
        """Seconds in which a device reads so many tokens of prompts and inducers."""
        return shape.flops(read, read * a.prompt / 2, 0) / (device.flops * speed.flops)

    def alone(read: float, rows: float, mean: float, longest: float, **branches: Any) -> float:
        """Seconds of `rows` rows of `mean` tokens with the local sampler on one GPU, and of what it reads before."""
        if tokens_per_second:
            return rows * mean / tokens_per_second
        known: dict[str, Any] = {"prompt": a.longest_prompt, "cache": cache, "width": width}
        sampling = local_seconds(shape, device, local, rows=rows, mean=mean, longest=longest, **known, **branches)
        return reading(read, local) + sampling

    spines, exits = train.problems_per_step * recipe.group.spines, recipe.group.exits
    whole, answer = a.thought + a.answer, rollout.max_answer_tokens
    longest = rollout.max_thought_tokens + answer
    if tokens_per_second:
        seconds_rollout = tokens.sampled / (tokens_per_second * gpus)
    elif name == "local":
        branches = {"exits": exits, "answer": a.answer, "most": answer}
        seconds_rollout = alone(tokens.prefilled, spines, whole, longest, **branches)
    else:
        share = max(1.0, spines / gpus)
        seconds_rollout = reading(tokens.prefilled / gpus, speed) + served_seconds(
            shape,
            device,
            speed,
            rows=share,
            mean=whole,
            longest=longest,
            prompt=a.prompt,
            cache=cache,
            branched=share * exits * a.answer,
            kept=a.prompt + a.thought / 2,
        )
    # forward, backward to inputs and, unless they are frozen, to weights; with checkpointing forward again; once for
    # old log-probs, if updates are several, and once by the base, if thoughts are held to it
    backward = 1 if recipe.model.lora else 2
    passes = train.updates_per_batch * (1 + backward + recipe.model.gradient_checkpointing)
    passes += train.updates_per_batch > 1
    passes += train.updates_per_batch * bool(recipe.objective.kl)
    work = passes * shape.flops(tokens.pushed, tokens.pairs, tokens.scored)
    seconds_update = work / (gpus * device.flops * speed.flops)

    looks = 0.0
    if train.held_out:  # the base at all of them, then at some now and then
        some = [train.held_out, *[min(LOOK_AT, train.held_out)] * (train.steps // LOOK_EVERY)]
        looks = sum(alone(rows * a.prompt, rows, whole, longest) for rows in some)
    sampled_first = recipe.task.solved and not recipe.task.solved_from
    evaluation, pass_rates = 0.0, None if sampled_first and recipe.task.limit is None else 0.0
    if train.eval_every:
        times = 1 + math.ceil(train.steps / train.eval_every)
        problems = held_out.problems or 500
        rows = problems * (held_out.samples + 1)  # sampled, and once greedy
        most = (held_out.max_thought_tokens or 0) + (held_out.max_answer_tokens or 0)
        evaluation = times * alone(2 * problems * a.prompt, rows, min(whole, most), most)
    if sampled_first and recipe.task.limit:
        limit = recipe.task.limit
        pass_rates = alone(limit * a.prompt, limit * recipe.task.solved_of, whole, longest)
    return Estimate(
        engine=name,
        device=device.name,
        gpus=gpus,
        parameters=shape.parameters,
        assumptions=a,
        tokens=tokens,
        memory=memory_of(recipe, shape, name, gpus, a, width),
        seconds_rollout=seconds_rollout,
        seconds_update=seconds_update,
        hours_steps=(train.steps * (seconds_rollout + seconds_update) + looks) / 3600,
        hours_evaluation=evaluation / 3600,
        hours_pass_rates=None if pass_rates is None else pass_rates / 3600,
        checkpoints_gib=disk_bytes(recipe, shape, name, width) / GIB,
    )


def disk_bytes(recipe: Recipe, shape: Shape, engine: str, width: int) -> int:
    """Of all checkpoints at the end. Locally each holds weights and AdamW's moments in float32; of LoRA the merged
    weights, in what passes are computed in, and the adapters. verl keeps its last two whole, weights and moments in
    float32, of LoRA the frozen weights among them, and while it saves a third one with the weights once more in
    float32; each as a Hugging Face folder besides, in what passes are computed in.
    """
    count = math.ceil(recipe.train.steps / recipe.train.checkpoint_every)
    rank, parameters = recipe.model.lora, shape.parameters
    trained = shape.adapters(rank) if rank else parameters
    published = width * parameters
    if engine == "verl":
        state = 4 * parameters + (4 * trained if rank else 0) + 8 * trained
        return count * published + min(3, count) * state + 4 * parameters
    return count * (width * parameters + 12 * trained if rank else 12 * parameters)

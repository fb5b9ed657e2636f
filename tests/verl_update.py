"""verl's update on two processes without Ray: of the same groups in rows by verl's own engine, in trees by ours.

Each process imports verl in the surroundings of the CPU's platform and drives the engines itself. What they found is
held against the local engine's in the first of them, and written down as figures.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from making import CLOSE, END, random_group
from suffice.config import ObjectiveSection
from suffice.engines.verl.estimators import Scored, loss_factor
from suffice.engines.verl.members import Member, gather
from suffice.engines.verl.tokens import sampled
from suffice.engines.verl.training import environment
from suffice.engines.verl.translate import LAYOUT
from suffice.engines.verl.trees import Tree, as_batch, trees_of
from suffice.errors import SufficeError
from suffice.groups import Group, Scores, Spine
from suffice.objective import Objective, RowBatch, SpineBatch, importance, policy_loss, row_batches, spine_batches
from suffice.objective.rows import Row, member_row
from suffice.objective.weights import weigh
from suffice.run.files import write_json
from verl_cpu import ENVIRONMENT, SETTINGS
from verl_making import configured

TEMPERATURE = 0.7
CLIP = {"clip_low": 0.2, "clip_high": 0.2}

Gradient = dict[str, Tensor]


class Update(NamedTuple):
    """A loss, its gradient, and the micro-batches it took."""

    loss: float
    gradient: Gradient
    passes: int


@dataclass
class Case:
    """A step of serial groups with advantages, all of which are trained on."""

    groups: list[Group]
    advantage_P_G: Tensor  # noqa: N815
    spines: int
    exits: int
    section: ObjectiveSection

    @property
    def objective(self) -> Objective:
        said = self.section
        return Objective(said.aggregate, said.train_on, CLOSE, self.exits, said.constant_length)

    def rows(self) -> list[tuple[Row, int, Member]]:
        """Members as rows of weight 1 on what is trained, where their inducers begin, and their facts."""
        found = []
        ones = torch.ones(self.advantage_P_G.shape)
        for p, (group, members) in enumerate(zip(self.groups, weigh(self.groups, ones, self.objective), strict=True)):
            for (column, _, member), weighed in zip(group.members(self.exits), members, strict=True):
                row, full = member_row(group.prompt, weighed), isinstance(member, Spine)
                injected = (weighed.kept, weighed.kept + (0 if full else len(group.inducer)))
                facts = Member(str(p), column, p, "WRONG", 1, 0, 0, True, False, None if full else 1, injected)
                found.append((row, len(group.prompt), facts))
        return found


def random_case(seed: int, spines: int, exits: int, aggregate: str, train_on: str, longest: int = 20) -> Case:
    rng = random.Random(seed)
    groups = [random_group(rng, spines, exits, longest) for _ in range(rng.randint(1, 4))]
    draw = torch.Generator().manual_seed(seed)
    advantage = torch.randn(len(groups), spines * (exits + 1), generator=draw)
    advantage[torch.rand(advantage.shape, generator=draw) < 0.2] = 0.0  # some members have nothing to say
    section = ObjectiveSection(aggregate=aggregate, train_on=train_on, constant_length=30)
    return Case(groups, advantage, spines, exits, section)


def both(case: Case, room: int, filler: int = 0) -> tuple[Any, list[Tree]]:
    """The step as verl's trainer has it in rows, so many rows of padding behind them, and as ours makes trees of it."""
    from tensordict import TensorDict

    rows = case.rows()
    tokens = [(row.tokens[:prompt], row.tokens[prompt:]) for row, prompt, _ in rows] + [
        (torch.full((5,), END),) * 2
    ] * filler
    none = torch.zeros(5)
    masks = [row.weight != 0 for row, *_ in rows] + [none.bool()] * filler
    behaviour = [row.behaviour.float() for row, *_ in rows] + [none] * filler
    facts = [*(facts for *_, facts in rows), *[None] * filler]
    mask_B_T = nested(masks).to_padded_tensor(0).bool()
    members = gather(facts, case.spines, case.exits)
    scored = Scored(
        members,
        torch.ones(len(case.groups), dtype=torch.bool),
        Scores(case.advantage_P_G, case.advantage_P_G * members.batch.valid),
    )
    sampled_B_T = sampled(facts, mask_B_T)
    full = case.advantage_P_G.numel()
    factor = loss_factor(scored, mask_B_T, case.section.aggregate, full)
    advantage_B = members.spread(scored.scores.advantage) * factor
    columns = {
        "prompts": [prompt for prompt, _ in tokens],
        "responses": [response for _, response in tokens],
        "input_ids": [torch.cat(pair) for pair in tokens],
        "position_ids": [torch.arange(sum(map(len, pair))) for pair in tokens],
        "response_mask": [mask.long() for mask in masks],
        "loss_mask": [mask.long() for mask in masks],
        "rollout_log_probs": behaviour,
        "old_log_probs": behaviour,
        "advantages": [advantage * mask for advantage, mask in zip(advantage_B, masks, strict=True)],
        "rollout_is_weights": [found[: len(mask)].float() for found, mask in zip(sampled_B_T, masks, strict=True)],
    }
    data = TensorDict({name: nested(column) for name, column in columns.items()}, batch_size=len(tokens))
    return data, trees_of(scored, data, sampled_B_T, case.section, case.exits, room)


def nested(column: Iterable[Tensor]) -> Tensor:
    return torch.nested.as_nested_tensor(list(column), layout=torch.jagged)


def in_processes(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Run `work(*arguments)` in so many processes that are a group of torch's over gloo."""
    os.environ.update(ENVIRONMENT)
    os.environ.update(environment() | {LAYOUT: "spine"})
    torch.multiprocessing.spawn(process, (count, work, arguments), nprocs=count)


def process(rank: int, count: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:

    import verl  # noqa: F401  # and with it the CPU's platform and our plugin

    torch.set_num_threads(1)
    folder: Path = arguments[0]
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    work(*arguments)
    torch.distributed.destroy_process_group()


def engine(path: Path, layout: str, section: ObjectiveSection, *, checkpointing: bool = False) -> tuple[Any, Any]:
    """verl's engine as its worker builds it by our configuration, with the loss."""
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import HFModelConfig
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
    from verl.workers.utils.losses import ppo_loss

    said = {"layout": layout, "aggregate": section.aggregate, "constant_length": section.constant_length}
    asked = [f"objective.{name}={value}" for name, value in said.items()]
    config, _ = configured(*asked, own=[f"verl.{name}={json.dumps(value)}" for name, value in SETTINGS.items()])
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    model = HFModelConfig(
        path=str(path),
        load_tokenizer=False,
        use_remove_padding=False,
        enable_gradient_checkpointing=checkpointing,
        override_config={"attn_implementation": "sdpa"},
    )
    arguments = (model, actor.engine, actor.optim, actor.checkpoint)
    found = (
        FSDPEngineWithLMHead(*arguments)
        if layout == "rows"
        else EngineRegistry.new("language_model", "fsdp2", *arguments)
    )
    found.initialize()
    return found, partial(ppo_loss, config=actor)


def backward(engine: Any, loss: Any, data: Any, members: int, budget: int | None = None) -> list[float]:
    """The losses of the micro-batches of this process's part of a batch; the gradient is left in the model.

    Args:
        members: what verl's configuration would say of the step.
        budget: tokens of a micro-batch; by default rows are taken one by one.
    """
    from verl.utils import tensordict_utils as tu

    mine = tu.chunk_tensordict(data, torch.distributed.get_world_size())[torch.distributed.get_rank()]
    tu.assign_non_tensor(
        mine,
        use_remove_padding=False,
        use_dynamic_bsz=budget is not None,
        max_token_len_per_gpu=budget,
        micro_batch_size_per_gpu=1,
        temperature=TEMPERATURE,
        global_batch_size=members,
    )
    engine.optimizer_zero_grad()
    found: list[float] = engine.forward_backward_batch(mine, loss)["loss"]
    return found


def gradient(engine: Any, loss: Any, data: Any, members: int, budget: int | None = None) -> Update:
    """Of a batch that is dealt to the processes, as the optimizer would get it."""
    with engine.train_mode():
        losses = backward(engine, loss, data, members, budget)
        grads = {name: p.grad.full_tensor().clone() for name, p in engine.module.named_parameters()}
    total = torch.tensor(sum(losses))
    torch.distributed.all_reduce(total, torch.distributed.ReduceOp.AVG)
    return Update(float(total), grads, len(losses))


def local(model: Any, batches: Sequence[RowBatch | SpineBatch]) -> Update:
    """What the local engine would find."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        new_T, _ = batch.logprobs(model, TEMPERATURE)
        old_T = new_T.detach()
        plus_T, minus_T, behaviour_T = (x.to(new_T) for x in (batch.plus, batch.minus, batch.behaviour))
        weights_T = importance(old_T, behaviour_T, batch.sampled)
        loss = policy_loss(new_T, old_T, plus_T, minus_T, importance_T=weights_T, **CLIP)
        loss.backward()
        total += float(loss.detach())
    return Update(total, {name: p.grad.clone() for name, p in model.named_parameters()}, len(batches))


def compare(folder: Path, model: Path, cases: list[tuple[Case, int]], misfits: list[Path]) -> None:
    """Each case, with the tokens of a micro-batch, by verl's rows, by trees and by both layouts of the local engine,
    without gradient checkpointing and with it; `found.json` gets what `held` makes of it. Then what is said of models
    that do not fit (`refuse`)."""
    from suffice.engines.verl.trainer import dealt

    count, found = torch.distributed.get_world_size(), list[dict[str, Any]]()
    for checkpointing in (False, True):
        engines: dict[str, Any] = {"trees": engine(model, "spine", cases[0][0].section, checkpointing=checkpointing)}
        for case, budget in cases:
            data, trees = both(case, budget, filler=count + -len(case.rows()) % count)
            aggregate, members = case.section.aggregate, case.advantage_P_G.numel()
            if aggregate not in engines:
                engines[aggregate] = engine(model, "rows", case.section, checkpointing=checkpointing)
            laid = as_batch(dealt(trees, count, END))
            updates = {
                name: gradient(actor, loss, batch, members, budget)
                for name, (actor, loss), batch in (
                    ("verl's rows", engines[aggregate], data),
                    ("trees", engines["trees"], laid),
                )
            }
            if torch.distributed.get_rank() == 0:
                found.append(held(load(model), case, updates))
    if torch.distributed.get_rank() == 0:
        write_json(folder / "found.json", found)
    refuse(folder, misfits)


def refuse(folder: Path, models: list[Path]) -> None:
    """Build the engine of the spine layout on models that it does not fit; `said-RANK.json` get what they say."""
    said = []
    for model in models:
        try:
            engine(model, "spine", ObjectiveSection(aggregate="constant", constant_length=30))
        except SufficeError as error:
            said.append(str(error))
    write_json(folder / f"said-{torch.distributed.get_rank()}.json", said)


def held(model: Any, case: Case, updates: dict[str, Update]) -> dict[str, Any]:
    """How far updates are from that of the local engine's rows: of the loss |l − l_rows| / Σᵢ|lᵢ|, of the gradient
    ‖g − g_rows‖ / Σᵢ‖gᵢ‖ over all parameters, lᵢ and gᵢ those of member i alone. `micro-batches` are one process's."""
    arguments = (case.groups, case.advantage_P_G, case.objective, 10**6)
    rows = row_batches(*arguments)
    wanted = local(model, rows)
    alone = [local(model, [RowBatch([row])]) for batch in rows for row in batch.rows]
    loss, size = sum(abs(member.loss) for member in alone), sum(norm(member.gradient) for member in alone)
    updates |= {"local spines": local(model, spine_batches(*arguments))}
    return {
        name: {
            "loss": abs(one.loss - wanted.loss) / loss,
            "gradient": norm({part: one.gradient[part] - grad for part, grad in wanted.gradient.items()}) / size,
            "micro-batches": one.passes,
        }
        for name, one in updates.items()
    }


def norm(gradient: Gradient) -> float:
    return float(torch.stack([grad.double().norm() for grad in gradient.values()]).norm())


def load(path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).train()

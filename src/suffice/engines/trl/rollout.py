"""Whole groups from our sampler, on the trainer's model, as TRL's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from suffice.config import Recipe
from suffice.engines.trl.config import IDLE, check_config
from suffice.engines.trl.data import texts_of
from suffice.errors import ModelError, SufficeError
from suffice.groups import Group, Problem
from suffice.model.positions import check_positions
from suffice.objective import weigh_member
from suffice.objective.spine import check_model
from suffice.rollout import Chat, Sampler, random_exits


@dataclass
class GroupRollout:
    """What to pass as `rollout_func`: whole groups from our sampler, on the trainer's model.

    Serial methods need it; parallel ones may leave the sampling to TRL.
    Randomness is keyed on the step and the problem's text, so that a resumed run samples what the first would have,
    and so do more processes. A member that does not exist (a thought shorter than its exits) is one masked pad token.
    """

    recipe: Recipe
    chat: Chat
    sampler: Sampler | None = field(default=None, init=False)

    @torch.no_grad()
    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        """Token ids, log-probs, `env_mask` (1 where `train_on` trains) and the `group` of every prompt, in order.

        Raises:
            SufficeError: the prompts are not whole groups, or the trainer's model cannot be sampled from.
        """
        recipe = self.recipe
        check_config(recipe, trainer.args)
        if trainer.args.use_vllm:
            raise SufficeError(IDLE)
        texts = texts_of(prompts, recipe.group.members)
        everyone = gather_object(texts)
        elsewhere = everyone[: PartialState().process_index * len(texts)]  # a text twice in a batch is sampled anew
        problems = [Problem(f"{text}/{elsewhere.count(text)}", "", text, "") for text in texts]
        if self.sampler is None:
            self.sampler = self._sampler(trainer)
        model, rollout = self.sampler.model, recipe.rollout
        check_positions(model, self.chat, problems, rollout.max_thought_tokens, rollout.max_answer_tokens)
        step = trainer.state.global_step // recipe.train.updates_per_batch + 1
        exits = random_exits(recipe.group.exits) if recipe.group.exits else None
        training = model.training
        model.eval()
        with trainer.accelerator.autocast():
            groups = self.sampler.groups(problems, recipe.group.spines, f"{recipe.run.seed}/{step}/0", exits)
        model.train(training)
        return self.rows(groups)

    def rows(self, groups: Sequence[Group]) -> dict[str, list[Any]]:
        """Every column of every group as TRL's row."""
        exits, size = self.recipe.group.exits, self.recipe.group.members
        train_on, close_id = self.recipe.objective.train_on or "sampled", self.chat.close_id
        found: dict[str, list[Any]] = {"completion_ids": [], "logprobs": [], "env_mask": []}
        for group in groups:
            columns = [([self.chat.pad_id], [0.0], [0])] * size
            for g, spine, member in group.members(exits):
                w = weigh_member(group, spine, member, train_on=train_on, close_id=close_id)
                trained = [1] * w.kept + [int(trained) for trained in w.own_trained]
                columns[g] = (spine.tokens[: w.kept] + w.own, spine.logprobs[: w.kept] + w.own_logprobs, trained)
            for values, column in zip(found.values(), zip(*columns, strict=True), strict=True):
                values.extend(column)
        of_member = [group for group in groups for _ in range(size)]
        return {"prompt_ids": [group.prompt for group in of_member], "group": of_member, **found}

    def _sampler(self, trainer: Any) -> Sampler:
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise SufficeError("our sampler needs a whole model in each process; use plain data parallelism (torchrun)")
        model = trainer.accelerator.unwrap_model(trainer.model)
        reuse = self.recipe.objective.layout == "spine"
        if reuse:
            try:
                check_model(model)
            except ValueError as reason:
                raise ModelError(f'the cache cannot be reused: {reason}; set objective.layout = "rows"') from None
        return Sampler.of(model, self.chat, self.recipe.rollout, reuse=reuse)

"""verl's actor in the spine layout: an FSDP2 engine whose rows are trees (`suffice.engines.verl.trees`).

Three things differ from verl's own. Attention goes by the layout; positions come with the row; and what predicts a
branch's first token is the hidden state at its exit, which the model's head is asked for in place of the one before.
All else is verl's: micro-batches, loss, sharding, clipping.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id, get_device_name, get_vendor
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from suffice.engines.verl.trees import STRETCHES, Stretches, as_batch, tree
from suffice.model.advice import cause_of
from suffice.model.attention import Layout, no_mask, use_layouts
from suffice.objective.ranges import has_varlen, ranges
from suffice.objective.rows import member_row
from suffice.objective.spine import Strand, Strands, calls, random_members, wrong_for


class SpineEngine(FSDPEngineWithLMHead):  # type: ignore[misc]
    """Takes the place of verl's engine in the processes of a run in the spine layout."""

    def _build_module(self) -> Any:
        module = super()._build_module()
        use_layouts(module)
        return module

    def _build_model_optimizer(self) -> None:
        super()._build_model_optimizer()
        self.check()

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """verl's for packed rows, with attention and head as the trees ask for them."""
        tu.assign_non_tensor(micro_batch, use_remove_padding=True)
        inputs, outputs = super().prepare_model_inputs(micro_batch)
        trees = [Stretches.of_tensor(found) for found in micro_batch[STRETCHES].unbind()]
        device = inputs["input_ids"].device
        return inputs | {
            "attention_mask": no_mask(device),
            "suffice_layout": attention_of(trees, device, self._autocast_dtype),
            "logits_to_keep": predictors(trees).to(device),
        }, outputs

    def check(self) -> None:
        """Compare small random trees with plain rows, by this machine's own kernels.

        Raises:
            ModelError: their log-probs differ.
        """
        try:
            difference = self.difference()
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the model's own code, which may fail in any way
            raise wrong_for(self.model_config.path, cause_of(error)) from error
        finally:
            self.module.reshard()
        if not difference <= (1e-3 if self._autocast_dtype == torch.float32 else 0.1):
            reason = f"log-probabilities differ from plain rows by {difference:.2g} on average"
            raise wrong_for(self.model_config.path, reason)

    @torch.no_grad()
    def difference(self) -> float:
        """Mean distance between the log-probs of the second of two equal trees and those of its members as rows."""
        self.module.train()  # as it will be
        group, members = random_members(self.module.config)
        rows = [(member_row(group.prompt, member), member.kept) for member in members]
        twice = as_batch([tree(len(group.prompt), rows)] * 2)
        tu.assign_non_tensor(twice, temperature=1.0)
        _, said = self.forward_step(twice, loss_function=None, forward_only=True)
        ours = said["model_output"]["log_probs"].unbind()[1][len(group.prompt) - 1 : -1]
        *branches, full = [self.logprobs(row.tokens)[len(group.prompt) - 1 :] for row, _ in rows]
        theirs = [full, *(found[kept:] for found, (_, kept) in zip(branches, rows, strict=False))]
        return float((ours - torch.cat(theirs)).abs().mean())

    def logprobs(self, tokens: Tensor) -> Tensor:
        """Of all tokens but the first, by the model as it is."""
        row, dtype = tokens[None].to(get_device_id()), self._autocast_dtype
        with torch.autocast(get_device_name(), dtype, enabled=dtype != torch.float32):
            logits = self.module(input_ids=row, use_cache=False).logits[0, :-1].float()
        return torch.log_softmax(logits, -1).gather(-1, row[0, 1:, None])[:, 0]


def attention_of(trees: Sequence[Stretches], device: torch.device, dtype: torch.dtype) -> Layout:
    """What each token of packed trees sees: as ranges where there is a kernel for them, else by masks."""
    return ranges(trees, device) if has_varlen(device, dtype) else strands(trees).to(device)


def strands(trees: Sequence[Stretches]) -> Strands:
    """Packed trees, which lie in the order of their attention."""
    order = torch.arange(sum(tree.tokens for tree in trees))
    found = [Strand(trunk, calls(trunk, [(range(own), kept) for kept, own in branches])) for trunk, branches in trees]
    return Strands(found, order, order)


def predictors(trees: Sequence[Stretches]) -> Tensor:
    """Where the token after each packed token [N] is predicted: there, but for a branch's first token at its exit."""
    found = torch.arange(sum(tree.tokens for tree in trees))
    start = 0
    for trunk, branches in trees:
        place = start + trunk
        for kept, own in branches:
            found[place - 1] = start + kept - 1
            place += own
        start = place
    return found


def register() -> None:
    """In the place where verl will look first."""
    device = os.environ.get("VERL_ENGINE_DEVICE") or get_device_name()
    vendor = os.environ.get("VERL_ENGINE_VENDOR") or get_vendor()
    EngineRegistry.register("language_model", "fsdp2", device, vendor)(SpineEngine)

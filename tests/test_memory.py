"""How many tokens a forward and backward pass may hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from suffice.config import MICRO_BATCH
from suffice.objective import memory
from suffice.objective.memory import activation_bytes, micro_batch_tokens


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(7, 4), nn.Linear(4, 16), nn.Linear(16, 4)

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(last_hidden_state=self.down(torch.sigmoid(self.up(self.embed(input_ids)))))


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.head = Backbone(), nn.Linear(4, 7)
        self.device, self.config = torch.device("cpu"), SimpleNamespace(get_text_config=lambda: None)

    @property
    def base_model(self) -> nn.Module:
        return self.model

    def get_output_embeddings(self) -> nn.Module:
        return self.head


# of a token: its id (8 bytes), the input of `up` (4 · 4) and what sigmoid gave, which `down` needs too (16 · 4)
KEPT = 8 + 4 * 4 + 16 * 4


def test_what_the_backward_pass_keeps_of_a_token_is_counted_once_and_without_weights():
    assert activation_bytes(Causal()) == KEPT


def test_what_is_frozen_keeps_nothing():
    model = Causal()
    model.requires_grad_(False)
    model.model.down.requires_grad_(True)  # which needs what sigmoid gave alone
    assert activation_bytes(model) == 16 * 4


@pytest.mark.parametrize(("left", "tokens"), [(0, 1), (KEPT, 1), (2 * KEPT * 100, 100), (1e12, MICRO_BATCH)])
def test_a_micro_batch_takes_half_of_what_memory_is_left(monkeypatch: pytest.MonkeyPatch, left: int, tokens: int):
    model = Causal()
    trained = sum(p.numel() for p in model.parameters())
    taken = 12 * trained + 16 * memory.LOGITS_PER_CHUNK
    monkeypatch.setattr(memory, "free_memory", lambda device: taken + left)
    assert micro_batch_tokens(model) == tokens

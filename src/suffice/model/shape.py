"""Sizes of decoders, and what follows from them alone: parameters, bytes, operations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.errors import ModelError


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder with a gated feed-forward, as config.json gives it. Norms and biases, 0.01 %, are left out.

    Of a mixture, `feed_forward` is of one of its `experts`, of which a token passes through `active`; all tokens pass
    through `shared` units besides.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    positions: int
    tied: bool
    experts: int = 1
    active: int = 1
    shared: int = 0

    def weights(self, experts: float) -> float:
        """Of the layers' linear maps, with so many experts a layer: query and output, key and value, three of every
        feed-forward, and the router."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.layers * (attention + 3 * self.hidden * (self.feed_forward * experts + self.shared) + router)

    @property
    def linear(self) -> int:
        """Weights that a token passes through."""
        return int(self.weights(self.active))

    def read(self, rows: float) -> float:
        """Weights that a pass of so many rows reads: of experts those that some row asks for, at most all."""
        return self.weights(min(self.experts, max(1.0, rows) * self.active))

    @property
    def head(self) -> int:
        """Weights of the head; the embedding has as many, and shares them if `tied`."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return int(self.weights(self.experts)) + self.head * (1 if self.tied else 2)

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token in bfloat16: 2 · 2 · layers · kv_heads · head_dim."""
        return 4 * self.layers * self.kv_heads * self.head_dim

    def adapters(self, rank: int) -> int:
        """LoRA's parameters: rank · (inputs + outputs) of every linear map of the layers. Experts are no maps of their
        own in transformers, and have none."""
        query, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        wide = self.shared if self.experts > 1 else self.feed_forward
        ends = 2 * (self.hidden + query) + 2 * (self.hidden + keys) + (3 * (self.hidden + wide) if wide else 0)
        return rank * self.layers * ends

    def flops(self, tokens: float, pairs: float, scored: float) -> float:
        """Of a forward pass: 2 a linear weight and token, 4·head_dim·heads a layer and attended pair, 2 a weight of the
        head and scored token."""
        attended = 4 * self.head_dim * self.heads * self.layers * pairs
        return 2 * self.linear * tokens + attended + 2 * self.head * scored

    def activation_bytes(self, tokens: float, *, checkpointing: bool, width: int = 2) -> float:
        """What the backward pass keeps of a micro-batch, the head apart, under bfloat16 autocast or, where numbers have
        a width of 4 bytes, in float32.

        A layer keeps about 27 bytes a token for each hidden unit (norms and residuals in float32 among them), 10 for
        each query and each key-value unit, 8 for each unit of the feed-forward, in float32 24, 16 and 16, as counted
        with `torch.autograd.graph.saved_tensors_hooks`. With checkpointing every layer keeps its float32 input alone,
        and one layer at a time the rest.
        """
        wide = self.feed_forward * self.active + self.shared
        a_head, a_unit, an_inner = (10, 27, 8) if width == 2 else (16, 24, 16)
        units = a_head * self.head_dim * (self.heads + self.kv_heads) + a_unit * self.hidden + an_inner * wide
        return tokens * (4 * self.hidden * self.layers + units if checkpointing else units * self.layers)


EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
EVERYWHERE = {"mlp_only_layers": [], "decoder_sparse_step": 1, "first_k_dense_replace": 0}
"""What config.json says where every layer has experts."""

# from each one's config.json on the hub, in the order of the fields above
KNOWN = {
    "Qwen/Qwen3-1.7B": Shape(28, 2048, 16, 8, 128, 6144, 151936, 40960, tied=True),
    "Qwen/Qwen3-4B": Shape(36, 2560, 32, 8, 128, 9728, 151936, 40960, tied=True),
    "Qwen/Qwen3-8B": Shape(36, 4096, 32, 8, 128, 12288, 151936, 40960, tied=False),
    "Qwen/Qwen3-14B": Shape(40, 5120, 40, 8, 128, 17408, 151936, 40960, tied=False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": Shape(28, 3584, 28, 4, 128, 18944, 152064, 131072, tied=False),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": Shape(48, 5120, 40, 8, 128, 13824, 152064, 131072, tied=False),
}


def shape_of(path: str, revision: str | None = None) -> Shape:
    """The shape of a checkpoint folder or of a hub model, of which config.json alone is asked for.

    Raises:
        ModelError: the hub is out of reach, or its config.json is not that of a decoder of the known kinds.
    """
    if path in KNOWN:
        return KNOWN[path]
    file = Path(path) / "config.json"
    if not file.is_file():
        file = _from_the_hub(path, revision)
    try:
        return read_shape(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{file} is not the config of a decoder that can be estimated ({type(error).__name__}: {error}); leave the "
            "estimate out or take another model"
        ) from None


def _from_the_hub(path: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(path, "config.json", revision=revision))
    except Exception as error:  # of the hub, of HTTP, of the network: each layer has kinds of its own
        raise ModelError(
            f"the shape of {path} is not known here; give a local checkpoint folder or one of: {', '.join(KNOWN)}"
        ) from error


def read_shape(config: Mapping[str, Any]) -> Shape:
    """
    Raises:
        KeyError, ValueError: a size is missing, or the model has latent attention, recurrent layers, or experts in some
            layers only.
    """
    kinds = {str(kind) for kind in config.get("layer_types") or ()}
    if other := sorted(kind for kind in kinds if not kind.endswith("_attention") or kind.startswith("linear")):
        raise ValueError(f"it has {', '.join(other)} layers")
    if config.get("kv_lora_rank"):
        raise ValueError("it has latent attention")
    experts = next((int(config[name]) for name in EXPERTS if config.get(name)), 1)
    if experts > 1 and (mixed := [name for name, usual in EVERYWHERE.items() if config.get(name, usual) != usual]):
        raise ValueError(f"it has experts in some layers only ({mixed[0]})")
    width = int((experts > 1 and config.get("moe_intermediate_size")) or config["intermediate_size"])
    shared = config.get("shared_expert_intermediate_size") or width * int(config.get("n_shared_experts") or 0)
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return Shape(
        layers=int(config["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        feed_forward=width,
        vocabulary=int(config["vocab_size"]),
        positions=int(config["max_position_embeddings"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        experts=experts,
        active=int(config["num_experts_per_tok"]) if experts > 1 else 1,
        shared=int(shared) if experts > 1 else 0,
    )

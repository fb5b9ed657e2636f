"""The local engine: one process, a CPU or one GPU, no set-up."""

from suffice.engines.local.loop import train

__all__ = ["train"]

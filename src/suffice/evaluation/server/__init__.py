"""A model behind a server that speaks OpenAI's API, as a source."""

from suffice.evaluation.server.budgets import fitting
from suffice.evaluation.server.source import ServerSource

__all__ = ["ServerSource", "fitting"]

"""A model behind a server that speaks OpenAI's API: as a source, and looked at."""

from suffice.evaluation.server.budgets import fitting
from suffice.evaluation.server.examine import Row, examine
from suffice.evaluation.server.source import ServerSource

__all__ = ["Row", "ServerSource", "examine", "fitting"]

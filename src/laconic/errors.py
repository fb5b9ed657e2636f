"""The errors a user can mend. Each message is one line: what is wrong, then what to do."""

from pathlib import Path


class LaconicError(Exception):
    """Root of every error that is the user's to mend; the command line prints it and exits with code 2."""


class RecipeError(LaconicError):
    """A recipe has an unknown key, a value out of range, or keys that contradict each other."""


class DataError(LaconicError):
    """A problem file is missing, empty or malformed, or lacks gold answers."""


class ModelError(LaconicError):
    """A model folder is missing, or its tokenizer or template cannot carry a thought."""


class RunError(LaconicError):
    """A run directory exists already, is missing, or lacks what is asked of it."""


class GraderError(LaconicError):
    """The grading worker cannot be started, or a kind of answer is unknown."""


class Interrupted(Exception):  # noqa: N818 - a user's wish, not an error
    """The user asked a run to stop; its last step was finished and saved."""

    def __init__(self, run: Path, step: int) -> None:
        super().__init__(f"stopped after step {step}; continue with: laconic train --resume {run}")

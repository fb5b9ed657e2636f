"""The errors a user can mend. Each message is one line: what is wrong, then what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suffice.groups import Group


class SufficeError(Exception):
    """Root of every error that is the user's to mend; the command line prints it and exits with code 2."""


def one_line(text: object) -> str:
    """A message as one line that a terminal can only show: texts of files and libraries may be quoted in it."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


class RecipeError(SufficeError):
    """A recipe has an unknown key, a value out of range, or keys that contradict each other."""


class DataError(SufficeError):
    """A problem file is missing, empty or malformed, or lacks gold answers."""


class ModelError(SufficeError):
    """A model folder is missing, or its tokenizer or template cannot carry a thought."""


class RunError(SufficeError):
    """A run directory exists already, is missing, or lacks what is asked of it."""


class GraderError(SufficeError):
    """The grading worker cannot be started, or a kind of answer is unknown."""


class ServerError(SufficeError):
    """A server cannot be reached, refuses what is asked of it, or does not offer what is needed."""


class UnfitError(ServerError):
    """A server refuses what a run asks of it, so that to continue the run would be to ask the same again."""


class PluginError(SufficeError):
    """An installed package offers a method that cannot be loaded, or under a name that is taken."""


class NonFiniteError(SufficeError):
    """A gradient is not finite. The command line exits with code 3, so that a script can tell it from a mistake."""

    groups: list[Group]
    """Whose gradient it was, once that is known."""


class Interrupted(Exception):  # noqa: N818 - a user's wish, not an error
    """The user asked for a stop; what was done is saved, and the message says how to go on."""

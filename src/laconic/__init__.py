"""laconic teaches reasoning language models to stop thinking when they know.

Names resolve on first use, so that importing the package (and `laconic --help`) loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.grading import grade as grade
    from laconic.groups import GroupBatch as GroupBatch
    from laconic.groups import Problem as Problem
    from laconic.groups import Scores as Scores
    from laconic.groups import Verdict as Verdict
    from laconic.methods import get_method as get_method
    from laconic.methods import list_methods as list_methods

__version__ = "0.1.0"

_HOME = {
    "GroupBatch": "laconic.groups",
    "Problem": "laconic.groups",
    "Scores": "laconic.groups",
    "Verdict": "laconic.groups",
    "get_method": "laconic.methods",
    "grade": "laconic.grading",
    "list_methods": "laconic.methods",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'laconic' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

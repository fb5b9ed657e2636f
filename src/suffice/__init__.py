"""suffice teaches reasoning language models to stop thinking when they know.

Names resolve on first use, so that importing the package (and `suffice --help`) loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffice.grading import grade as grade
    from suffice.groups import GroupBatch as GroupBatch
    from suffice.groups import Problem as Problem
    from suffice.groups import Scores as Scores
    from suffice.groups import Verdict as Verdict
    from suffice.methods import get_method as get_method
    from suffice.methods import list_methods as list_methods

__version__ = "0.1.0"

_HOME = {
    "GroupBatch": "suffice.groups",
    "Problem": "suffice.groups",
    "Scores": "suffice.groups",
    "Verdict": "suffice.groups",
    "get_method": "suffice.methods",
    "grade": "suffice.grading",
    "list_methods": "suffice.methods",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'suffice' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Where verbs speak: to people line by line, to other programs as JSON alone on standard output."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

say = Console(soft_wrap=True)


def tell(text: str) -> None:
    """A line as it is, without markup or colours."""
    say.print(text, markup=False, highlight=False)


def emit(value: Any) -> None:
    """A result for other programs: from here on what is said to people goes to standard error."""
    say.stderr = True
    print(json.dumps(value, indent=2, ensure_ascii=False))

"""`chosen.json` of a run: the checkpoint that its guard chose to keep."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from suffice.config import explain
from suffice.errors import RunError
from suffice.run.files import read_json


class Chosen(BaseModel):
    """`chosen.json` of a run: the checkpoint to keep, by `path` in the run; for step 0 the base, by its own path."""

    step: int = Field(ge=0)
    path: str
    accuracy: float
    thought_tokens: float
    rule: str

    def checkpoint(self, run: Path) -> Path:
        return run / self.path if self.step else Path(self.path)

    @property
    def words(self) -> str:
        if self.step == 0:
            return f"the base, {self.path}: the guard found no checkpoint that is shorter and as accurate"
        return f"step {self.step}, which the guard chose"


def read_chosen(run: Path) -> Chosen | None:
    """What the guard of a run chose, or None.

    Raises:
        RunError: `chosen.json` is malformed.
    """
    path = run / "chosen.json"
    if not path.exists():
        return None
    try:
        return Chosen.model_validate(read_json(path))
    except ValidationError as error:
        raise RunError(f"{path}: {explain(error, Chosen)}; remove it and resume {run}") from None

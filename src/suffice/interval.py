"""An estimate with its confidence interval: what every measured figure of suffice is."""

from __future__ import annotations

from math import isfinite, nan
from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate with the lower and upper end of its interval, all in the unit of the values.

    NaN where nothing is known: the ends for fewer than two questions, the estimate too for none.
    """

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        return isfinite(self.mean)

    @property
    def bounded(self) -> bool:
        return isfinite(self.mean) and isfinite(self.low) and isfinite(self.high)

    @property
    def sign(self) -> int:
        """1 or −1 where the whole interval lies on one side of 0, else 0."""
        return (self.low > 0) - (self.high < 0)

    def as_dict(self, centre: str = "mean") -> dict[str, float | None]:
        """`{"mean": …, "low": …, "high": …}` as JSON holds it: null where nothing is known. `centre` names the mean."""
        return {name: end if isfinite(end) else None for name, end in zip((centre, "low", "high"), self, strict=True)}


UNKNOWN = Interval(nan, nan, nan)

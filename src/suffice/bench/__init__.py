"""The bench: several ways to train one base, each with several seeds, evaluated alike and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suffice.bench.found import BenchFound
    from suffice.bench.plan import Bench


def record(bench: Bench, out: Path, failed: Mapping[str, str]) -> BenchFound:
    """Write what the finished cells in OUT say: `bench.json`, which is returned, `table.md` and the figures.

    Args:
        failed: why cells failed, by folder, as `run_bench` returns it.
    """
    from suffice.bench.figures import write_figures
    from suffice.bench.result import write_result
    from suffice.bench.tables import markdown
    from suffice.run.files import write_text
    from suffice.run.layout import TABLE

    found = write_result(bench, out, failed)
    write_text(out / TABLE, markdown(found))
    write_figures(found, out)
    return found

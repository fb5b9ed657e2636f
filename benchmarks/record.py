"""What every benchmark shares: a clock, a table or JSON lines on standard output, and a record of where it was run."""

from __future__ import annotations

import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console
from rich.table import Table

from suffice.errors import Interrupted, SufficeError

RESULTS = Path(__file__).parent / "results"

Json = Annotated[bool, typer.Option("--json", help="One JSON object a row on standard output.")]
Record = Annotated[bool, typer.Option("--record", help="Keep the rows under benchmarks/results.")]


def timed(work: Callable[[], Any]) -> float:
    """Seconds: of CPU time where torch has one thread, so that a busy machine does not count, else of wall time."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    work()
    return clock() - started


def machine() -> dict[str, Any]:
    """Where numbers come from: cores, CPU, threads, versions."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0].partition(":")[2].strip(),
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def publish(name: str, rows: Iterable[dict[str, Any]], *, as_json: bool, record: bool) -> None:
    """Print rows as they come (JSON) or at the end (a table); with `record`, keep them in results/<name>.json."""
    found = []
    for row in rows:
        rounded = {key: round_to(value, 4) for key, value in row.items()}
        found.append(rounded)
        if as_json:
            print(json.dumps(rounded), flush=True)
    if not as_json:
        table = Table(*(str(row["case"]) for row in found), show_header=False)
        for key in found[0]:
            table.add_row(key, *(str(row[key]) for row in found))
        Console().print(table)
    if record:
        module = sys.modules["__main__"].__spec__
        command = ["python", "-m", module.name if module else "?", *sys.argv[1:]]
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        result = {"command": " ".join(command), "date": date, "machine": machine(), "rows": found}
        path = RESULTS / f"{name}.json"
        if path.exists():
            old = json.loads(path.read_text())
            result["rows"] = merged(old, result)
            if len(result["rows"]) > len(found) and old["command"] != result["command"]:
                result["command"] = f"{old['command']}; {result['command']}"
        path.write_text(json.dumps(result, indent=1) + "\n")


def merged(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The new rows in the places of the old rows of the same cases; another machine's rows go."""
    if old["machine"] != new["machine"]:
        return new["rows"]
    return list(({row["case"]: row for row in old["rows"]} | {row["case"]: row for row in new["rows"]}).values())


def round_to(value: Any, digits: int) -> Any:
    """A float at so many significant digits; anything else as it is."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def reported(main: Callable[..., None]) -> None:
    """Run a script's `main` as a command line: a mistake is one line and exit code 2, being stopped 130."""
    try:
        typer.run(main)
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(130)
    except SufficeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

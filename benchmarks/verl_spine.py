"""verl's update of a serial group in the spine layout against its rows: seconds, tokens, and the gradients' distance.

    PYTHONPATH=tests python -m benchmarks.verl_spine [--json] [--thought 1024] [--rounds 3] [--record]

verl's FSDP2 engine on one process of this machine's processors, with its own loss and its own log-probs, as
`suffice train --engine verl` configures it. Rows are pushed one by one, without padding, as packed rows would be on a
GPU. Both layouts take turns, and the median of each is reported. The distance is ‖g_spine − g_rows‖ / ‖g_rows‖.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from benchmarks.models import advantages, random_model, serial_group
from benchmarks.record import Json, Record, publish, timed
from suffice.config import ObjectiveSection
from suffice.run.files import read_json, write_json
from verl_update import Case, backward, both, engine, gradient, in_processes, norm

THOUGHTS, ROUNDS, EXITS = [512, 1024, 2048], 3, 8


def main(
    as_json: Json = False,
    record: Record = False,
    thought: Annotated[list[int], typer.Option("--thought", help="Tokens of thought; may be repeated.")] = THOUGHTS,
    rounds: Annotated[int, typer.Option("--rounds", help="Updates of each layout.")] = ROUNDS,
) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        random_model().save_pretrained(Path(name) / "model")
        publish("verl_spine", cases(Path(name), thought, rounds), as_json=as_json, record=record)


def cases(folder: Path, thoughts: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    in_processes(measure, 1, folder, thoughts, rounds)
    yield from read_json(folder / "found.json")


def measure(folder: Path, thoughts: list[int], rounds: int) -> None:
    """In the process of an actor."""
    from suffice.engines.verl.trees import as_batch

    section = ObjectiveSection(aggregate="constant", train_on="all", constant_length=1024)
    engines = {layout: engine(folder / "model", layout, section) for layout in ("rows", "spine")}
    found = []
    for thought in thoughts:
        case = Case([serial_group(thought, EXITS)], advantages(EXITS), 1, EXITS, section)
        rows, trees = both(case, room=10**6)
        batches = {"rows": rows, "spine": as_batch(trees)}
        updates = {layout: gradient(*engines[layout], batch, EXITS + 1) for layout, batch in batches.items()}
        seconds: dict[str, list[float]] = {"rows": [], "spine": []}
        for _ in range(rounds):
            for layout, batch in batches.items():
                actor, loss = engines[layout]
                with actor.train_mode():
                    took = timed(lambda actor=actor, loss=loss, batch=batch: backward(actor, loss, batch, EXITS + 1))
                seconds[layout].append(took)
        tokens = {layout: int(batch["input_ids"].offsets()[-1]) for layout, batch in batches.items()}
        wanted = updates["rows"].gradient
        apart = {name: updates["spine"].gradient[name] - grad for name, grad in wanted.items()}
        found.append(
            {
                "case": f"thought-{thought}",
                "thought": thought,
                "ratio": median(seconds["rows"]) / median(seconds["spine"]),
                "token_ratio": tokens["rows"] / tokens["spine"],
                "grad_rel_err": norm(apart) / norm(wanted),
                "seconds_rows": median(seconds["rows"]),
                "seconds_spine": median(seconds["spine"]),
                "tokens_rows": tokens["rows"],
                "tokens_spine": tokens["spine"],
                "rounds": rounds,
            }
        )
    write_json(folder / "found.json", found)


if __name__ == "__main__":
    typer.run(main)

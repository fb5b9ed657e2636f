"""The problems of a run as verl's data set: one row for every problem of every step, in the order of drawing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from suffice.groups import Problem
from suffice.run.files import whole_file


def write_problems(path: Path, problems: Sequence[Problem], agent: str) -> None:
    """A parquet file; `index` is the place in the order of drawing, `id` and `kind` are ours.

    `agent` samples them: `suffice` groups for training, `suffice-plain` one by one for verl's own validation.
    """
    rows = [
        {
            "prompt": [{"role": "user", "content": problem.prompt}],
            "data_source": problem.task,
            "agent_name": agent,
            "reward_model": {"style": "rule", "ground_truth": problem.gold},
            "extra_info": {"index": index, "id": problem.id, "kind": problem.kind},
        }
        for index, problem in enumerate(problems)
    ]
    with whole_file(path) as aside:
        pq.write_table(pa.Table.from_pylist(rows), aside)

"""Data sets of the hub: what each is called there, and what its records mean.

Each is read from the hub, or from a copy: a `.jsonl`, `.json` or `.parquet` file, or a folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from suffice.errors import DataError
from suffice.groups import Problem
from suffice.tasks.choices import LETTERS, listed_below, options_of
from suffice.tasks.files import Record, checksum, read_records
from suffice.tasks.hub import hub_commit, hub_records
from suffice.tasks.prompts import with_prompts
from suffice.tasks.records import Values, named, to_problems


def stripped(values: Values) -> Values:
    return values | {"prompt": values["prompt"].strip(), "gold": values["gold"].strip()}


def with_number(values: Values) -> Values:
    r"""The gold is the number after `####`, if there is one, else all of it.

    `2,000`, `27.0`, `025` and `336^\circ` (of AIME 2025) become plain numbers.
    """
    final = values["gold"].rsplit("####", 1)[-1].strip().replace(",", "").removesuffix(r"^\circ")
    parts = re.fullmatch(r"(-?)0*(\d+?)(?:\.0+|(\.\d+))?", final, re.ASCII)
    if parts is None:
        raise ValueError("answer ends in no number; write the number alone, or after '####'")
    return stripped(values) | {"gold": parts[1] + parts[2] + (parts[3] or "")}


def with_choices(values: Values) -> Values:
    """The question with its four answers below it, and the right one's letter as the gold.

    Their order hangs on the texts alone: it is the same in every file, in every order of its records.
    """
    prompt = values["prompt"].strip()
    answers = [values[name].strip() for name in ("gold", "wrong1", "wrong2", "wrong3")]
    order = sorted(range(4), key=lambda i: blake2b(f"{prompt}\0{answers[i]}".encode()).digest())
    listed = listed_below(prompt, [answers[i] for i in order])
    return values | {"prompt": listed, "gold": "ABCD"[order.index(0)], "kind": "choice"}


def with_options(values: Values, options: Any) -> Values:
    """The question with its options below it, in their order; the gold is one of their letters."""
    texts, letter = options_of(options).texts, values["gold"]
    if letter not in LETTERS[: len(texts)]:
        raise ValueError(f"the gold answer {letter!r:.40} is no letter of its {len(texts)} options; correct it")
    return values | {"prompt": listed_below(values["prompt"], texts), "kind": "choice"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set of the hub.

    `splits` are our names → the hub's, `fields` our names → the names a record may use. `shape` makes a problem of
    them. `options` is the column of the answers to choose from, which are shown below the question; the gold is one's
    letter. `tolerant` leaves out records without a usable gold answer, for sets too large to be mended by hand.
    """

    name: str
    hub: str
    splits: Mapping[str, str]
    fields: Mapping[str, tuple[str, ...]]
    shape: Callable[[Values], Values]
    config: str | None = None
    options: str | None = None
    tolerant: bool = False

    def load(
        self,
        path: str | None,
        split: str | None,
        fields: dict[str, str] | None,
        revision: str | None,
        prompt: str | None,
    ) -> list[Problem]:
        """The problems of a split (default: the first of `splits`)."""
        if fields:
            raise DataError(
                f"task {self.name} has fields of its own; leave fields out, or use task jsonl for other files"
            )
        split = self.split(split)
        columns = {name for names in self.fields.values() for name in names}
        columns |= {self.options} if self.options else set()
        if path is None:
            records = hub_records(self.hub, self.config, self.splits[split], revision, columns)
        else:
            records = [record for file in self.files(Path(path), split) for record in read_records(file, columns)]
            records = [Record(record.where, n, record.data) for n, record in enumerate(records, start=1)]
        problems = to_problems(records, self.name, split, self._read, tolerant=self.tolerant)
        return with_prompts((problem, prompt or "boxed") for problem in problems)

    def _read(self, record: Record) -> Values:
        values = self.shape(named(record, self.fields))
        return values if self.options is None else with_options(values, record.data.get(self.options))

    def locate(self, path: str | None, split: str | None, revision: str | None) -> dict[str, Any]:
        """The split, and the hub's data set with the commit of `revision`, or the local copy with its SHA-256."""
        split = self.split(split)
        if path is None:
            config = {"config": self.config} if self.config else {}
            return {"split": split, "hub": self.hub, **config, "revision": hub_commit(self.hub, revision)}
        files = self.files(Path(path), split)
        return {
            "split": split,
            "path": str(files[0] if len(files) == 1 else files[0].parent),
            "sha256": checksum(files),
        }

    def split(self, split: str | None) -> str:
        split = split or next(iter(self.splits))
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}; use {' or '.join(map(repr, self.splits))}")
        return split

    def files(self, path: Path, split: str) -> list[Path]:
        """The file at `path`, or the one in that folder that holds a split, or the shards it is written in."""
        if not path.is_dir():
            return [path]
        theirs = self.splits[split]
        patterns = [f"{self.name}_{split}.jsonl", f"{theirs}.jsonl", f"{theirs}-*.parquet", f"data/{theirs}-*.parquet"]
        if len(self.splits) == 1:  # else it could not be told which split the file is
            patterns.insert(1, f"{self.name}.jsonl")
        if self.config:
            patterns.append(f"{self.config}/{theirs}-*.parquet")
        for pattern in patterns:
            found = sorted(path.glob(pattern))
            if len(found) == 1 or _complete(found):
                return found
            if found:
                raise DataError(f"{path} has {len(found)} files {pattern}; give the path of the one to read")
        raise DataError(
            f"{path} has no {' or '.join(patterns)}; give the path of a file of {self.name}, or the folder it is in"
        )


def _complete(files: list[Path]) -> bool:
    """Whether files are all the shards of one data set, in order: `…-00000-of-00002`, `…-00001-of-00002`."""
    endings = [file.stem[-15:] for file in files]
    return bool(files) and endings == [f"-{n:05d}-of-{len(files):05d}" for n in range(len(files))]


DATASETS = {
    dataset.name: dataset
    for dataset in (
        # grade-school word problems (Cobbe et al., arXiv 2110.14168)
        Dataset(
            "gsm8k",
            hub="openai/gsm8k",
            config="main",
            splits={"train": "train", "test": "test"},
            fields={"prompt": ("question",), "gold": ("answer",), "id": ("id",)},
            shape=with_number,
        ),
        # 500 of MATH's test problems (Lightman et al., arXiv 2305.20050); difficulty is the level, 1 to 5
        Dataset(
            "math500",
            hub="HuggingFaceH4/MATH-500",
            splits={"test": "test"},
            fields={
                "prompt": ("problem",),
                "gold": ("answer",),
                "id": ("unique_id", "id"),
                "difficulty": ("level",),
            },
            shape=stripped,
        ),
        # 40 problems of the AMC 12 of 2023, reworded so that each answer is a number
        Dataset(
            "amc23",
            hub="math-ai/amc23",
            splits={"test": "test"},
            fields={"prompt": ("question", "problem"), "gold": ("answer",), "id": ("id",)},
            shape=with_number,
        ),
        # 30 problems a year, answers 0 to 999
        Dataset(
            "aime24",
            hub="HuggingFaceH4/aime_2024",
            splits={"test": "train"},
            fields={"prompt": ("problem",), "gold": ("answer",), "id": ("id",)},
            shape=with_number,
        ),
        Dataset(
            "aime25",
            hub="math-ai/aime25",
            splits={"test": "test"},
            fields={"prompt": ("problem",), "gold": ("answer",), "id": ("id",)},
            shape=with_number,
        ),
        Dataset(
            "aime26",
            hub="MathArena/aime_2026",
            splits={"test": "train"},
            fields={"prompt": ("problem",), "gold": ("answer",), "id": ("problem_idx", "id")},
            shape=with_number,
        ),
        # 30 problems of February 2025, answers in LaTeX
        Dataset(
            "hmmt25",
            hub="MathArena/hmmt_feb_2025",
            splits={"test": "train"},
            fields={"prompt": ("problem",), "gold": ("answer",), "id": ("problem_idx", "id")},
            shape=stripped,
        ),
        # 674 problems in English without pictures (He et al., arXiv 2402.14008); several answers are one list
        Dataset(
            "olympiadbench",
            hub="Hothan/OlympiadBench",
            config="OE_TO_maths_en_COMP",
            splits={"test": "train"},
            fields={"prompt": ("question",), "gold": ("final_answer",), "id": ("id",)},
            shape=stripped,
            tolerant=True,
        ),
        # 272 problems of university courses (Lewkowycz et al., arXiv 2206.14858)
        Dataset(
            "minerva",
            hub="math-ai/minervamath",
            splits={"test": "test"},
            fields={"prompt": ("question",), "gold": ("answer",)},
            shape=stripped,
            tolerant=True,
        ),
        # the 198 hardest of GPQA (Rein et al., arXiv 2311.12022); its authors ask that no question be shown in public
        Dataset(
            "gpqa",
            hub="Idavidrein/gpqa",
            config="gpqa_diamond",
            splits={"test": "train"},
            fields={
                "prompt": ("Question",),
                "gold": ("Correct Answer",),
                "wrong1": ("Incorrect Answer 1",),
                "wrong2": ("Incorrect Answer 2",),
                "wrong3": ("Incorrect Answer 3",),
                "id": ("Record ID",),
            },
            shape=with_choices,
        ),
        # 12,000 questions of 14 subjects with up to ten options (Wang et al., arXiv 2406.01574)
        Dataset(
            "mmlu-pro",
            hub="TIGER-Lab/MMLU-Pro",
            splits={"test": "test"},
            fields={"prompt": ("question",), "gold": ("answer",), "id": ("question_id",)},
            shape=stripped,
            options="options",
            tolerant=True,
        ),
        # 103,000 training problems (He et al., arXiv 2504.11456); difficulty is a number, most from 5 to 9
        Dataset(
            "deepmath",
            hub="zwhe99/DeepMath-103K",
            splits={"train": "train"},
            fields={"prompt": ("question",), "gold": ("final_answer",), "difficulty": ("difficulty",)},
            shape=stripped,
            tolerant=True,
        ),
    )
}

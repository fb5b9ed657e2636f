"""What a file is, whatever its name says: read where there is one way to, else called by its name."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from problem_files import refusal
from suffice.errors import DataError
from suffice.tasks import load_task
from suffice.tasks.files import read_records

ROWS = [{"prompt": f"{n}?", "gold": str(n)} for n in range(3)]
LINES = "\n".join(map(json.dumps, ROWS)).encode()


def load(folder: Path, name: str, content: bytes) -> list[tuple[str, str]]:
    (folder / name).write_bytes(content)
    return [(p.prompt, p.gold) for p in load_task("jsonl", path=str(folder / name))]


def said(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return refusal("jsonl", path=str(folder / name)).removeprefix(str(folder / name))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "A.JSONL", "a.JSON"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES + b"\n\n",
        LINES.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + LINES,
        json.dumps(ROWS).encode(),
        b"\n " + json.dumps(ROWS, indent=2).encode() + b"\n",
        b"\xef\xbb\xbf" + json.dumps(ROWS).encode() + b"\r\n",
        b"[\n" + b",\n".join(LINES.split(b"\n")) + b"\n]",
        b"\n".join(json.dumps(row, indent=1).encode() for row in ROWS),
        LINES.replace(b"\n", b" "),
        LINES.replace(b"\n", b"\r"),
    ],
)
def test_json_is_read_under_either_name(tmp_path: Path, name: str, content: bytes):
    assert load(tmp_path, name, content) == [(f"{n}?", str(n)) for n in range(3)]


def test_one_object_is_one_problem(tmp_path: Path):
    for name in ("a.json", "a.jsonl"):
        assert load(tmp_path, name, json.dumps(ROWS[1], indent=2).encode()) == [("1?", "1")]
        assert load(tmp_path, name, json.dumps(ROWS[1]).encode()) == [("1?", "1")]


def test_a_record_of_an_array_is_named_by_its_place_in_it(tmp_path: Path):
    content = json.dumps([ROWS[0], {"prompt": "b"}], indent=2).encode()
    assert said(tmp_path, "a.jsonl", content).startswith(" record 2: no gold")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.jsonl", LINES)
    return file.getvalue()


def table() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (POINTER, " is a git-lfs pointer, not the file itself; fetch that with `git lfs pull`"),
        (gzip.compress(LINES), " is compressed; unpack it with gunzip"),
        (lzma.compress(LINES), " is compressed; unpack it with unxz"),
        (zipped(), " is a zip archive or a spreadsheet; unpack it, or export its rows as .jsonl"),
        (b"<!DOCTYPE html>\n<html>404</html>", " is a web page, not data; download the file itself"),
        (b'\n<html lang="en"><head>', " is a web page, not data; download the file itself"),
        (b"<?xml version='1.0'?><Error>", " is a web page, not data; download the file itself"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(tmp_path: Path, name: str, content: bytes, what: str):
    assert said(tmp_path, name, content).startswith(what)


def test_parquet_and_json_are_not_taken_for_each_other(tmp_path: Path):
    for name in ("a.json", "a.jsonl", "a.txt"):
        assert said(tmp_path, name, table()) == " is a parquet file; give it a name that ends in .parquet"
    for content in (LINES, json.dumps(ROWS).encode()):
        assert said(tmp_path, "a.parquet", content) == " is JSON, not parquet; give it a name that ends in .jsonl"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"question,answer\n1+1?,2\n", ":1: a table of cells, not JSON ('question,answer'); write each row as {"),
        (b'"question","answer"\n"1, or 2?","2"', ":1: a table of cells, not JSON ("),
        (b"question\tanswer\n1+1?\t2", ":1: a table of cells, not JSON ('question answer')"),
        (b"question;answer\n1+1?;2", ":1: a table of cells, not JSON ("),
        (b"Entry not found", ":1: not JSON ('Entry not found'); write each problem as {"),
        (b"Access is restricted, please log in.", ":1: not JSON ('Access is"),
        (b"prompt: 1+1?\ngold: 2", ":1: not JSON ('prompt: 1+1?')"),
        (b"{'prompt': '1+1?', 'gold': '2'}\n{'prompt': 'a'}", ":1: malformed JSON at column 2"),
        (
            b'{"prompt": "a", "gold": "1"},\n{"prompt": "b", "gold": "2"},',
            ":1: malformed JSON at column 29 (Extra data)",
        ),
        (b'[{"prompt": "a", "gold": "1"}\n{"prompt": "b"}]', ":2: malformed JSON at column 1"),
        (b'[\n{"prompt": "a", "gold": "\xff"}\n]', ":2: invalid UTF-8 at byte 26; save the file as UTF-8"),
        (b'[\n{"prompt": "a", "gold": NaN}\n]', ": malformed JSON (NaN is not JSON)"),
        (b'{"prompt": "a"\n{"prompt": "b"', ":1: malformed JSON at column 15"),
        (LINES.decode().encode("utf-16"), ":1: invalid UTF-8 at byte 1; save the file as UTF-8"),
        (
            '{"prompt": "\u5317\u4eac", "gold": "1"}'.encode("gbk"),
            ":1: invalid UTF-8 at byte 13; save the file as UTF-8",
        ),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_text_that_is_no_json_is_refused_with_what_it_seems_to_be(tmp_path: Path, name: str, content: bytes, what: str):
    assert said(tmp_path, name, content).startswith(what)


def test_the_mend_fits_the_mistake(tmp_path: Path):
    python = said(tmp_path, "a.jsonl", b"{'prompt': '1+1?', 'gold': '2'}")
    assert python.endswith("it is Python's notation: write it with json.dumps")
    commas = said(tmp_path, "a.jsonl", LINES.replace(b"\n", b",\n") + b",")
    assert commas.endswith("leave out the commas between objects, or put brackets around them all")


@pytest.mark.parametrize(
    "content",
    [
        {"prompt": ["a", "b"], "gold": ["1", "2"]},
        {"prompt": {"0": "a", "1": "b"}, "gold": {"0": "1", "1": "2"}},
    ],
)
def test_an_object_of_columns_is_no_problem(tmp_path: Path, content: dict[str, object]):
    for indent in (None, 2):
        told = said(tmp_path, "a.json", json.dumps(content, indent=indent).encode())
        assert told == ": an object of columns, not of rows; write one object a row"


def test_records_inside_an_object_are_named(tmp_path: Path):
    told = said(tmp_path, "a.json", json.dumps({"version": 1, "data": ROWS}).encode())
    assert told == ":1: no prompt; 'data' holds a list of records: save that list as the file"


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([".json", ".jsonl", ".parquet", ".csv"]),
    st.sampled_from([b"", b"[", b"{"]),
)
def test_any_bytes_are_records_or_a_refusal_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str, first: bytes
):
    path = tmp_path_factory.mktemp("hostile") / f"a{ending}"
    path.write_bytes(first + content)
    told = ""
    try:
        assert all(isinstance(record.data, dict) for record in read_records(path))
    except DataError as error:
        told = str(error)
    assert "\n" not in told

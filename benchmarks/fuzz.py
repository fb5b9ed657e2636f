"""Hostile recipes, problem files, checkpoints, run directories and server replies, each as a user would meet it.

    python -m benchmarks.fuzz [--times 250] [--only recipe] [--json] [--record]

Every case is drawn from its number alone, so that `--first 17 --times 1` does the 17th again. It goes through the
command line, most of them within this process, one in 25 in a process of its own. A case is good if the command ends
well, or with exit code 2 and one line (of the doctor, its table); anything else, such as a traceback or a silence of
60 seconds, is a defect and is shown.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import tomli_w
import torch
import typer
from pyarrow import parquet

from benchmarks.record import Json, Record, publish
from suffice import cli
from suffice.config import Recipe, load_recipe
from suffice.engines.local import train
from suffice.evaluation.server import ServerSource, source
from suffice.lab import base_path

PATIENCE = 60  # seconds
OWN_PROCESS = 25  # one case in so many
BUDGETS = ["--max-thought-tokens", "8", "--max-answer-tokens", "2"]
SHORT = ["--samples", "1", *BUDGETS]

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"),
    "", " ", "a", "\0", "\n", "λ−\u2028\u202e", "💥", "../../etc/passwd", "/dev/zero", "/dev/full", "a" * 10_000,
    "{{ 7 * 7 }}", "</think>", "<think>", "[bold]x[/bold]", "%s%n", [], [[]], [1, "a", None], {}, {"a": {"a": {}}},
    ["x"] * 1000, {"__class__": "x"}, "0x10", "1e3", "nan",
]  # fmt: skip


# -- how things are spoiled


def spoiled(content: bytes, rng: random.Random) -> bytes:
    """A text or a binary file, damaged in one way."""
    at, length = rng.randrange(len(content) + 1), rng.randint(1, 40)
    noise = rng.randbytes(length)
    ways: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: noise,
        lambda: content[:at],
        lambda: content[:at] + content[at + length :],
        lambda: content[:at] + noise + content[at:],
        lambda: content[:at] + bytes([(content[at : at + 1] or b"\0")[0] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        lambda: content + content,
        lambda: content[:at] + content[max(0, at - 200) : at] + content[at:],
        lambda: b"\xef\xbb\xbf" + content,
        lambda: b"\xff\xfe" + content.decode("utf-8", "replace").encode("utf-16-le"),
        lambda: content.replace(b"\n", b"\r\n"),
        lambda: content[:at] + b"\0" * length + content[at:],
        lambda: content[:at] + b"[" * 100_000 + content[at:],
        lambda: content[:at] + b"{\"a\":" * 5_000 + content[at:],
        lambda: content[:at] + b"\\ud800" + content[at:],
        lambda: content[:at] + b"\xed\xa0\x80" + content[at:],
        lambda: content[:at] + b"9" * 6_000 + content[at:],
    ]  # fmt: skip
    return rng.choice(ways)()


def altered(value: Any, rng: random.Random) -> Any:
    """A JSON value, with one place in it removed, doubled, renamed, or replaced by something hostile."""
    value = json.loads(json.dumps(value))
    holders = [value] if isinstance(value, (dict, list)) and value else []
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [each for each in inner if isinstance(each, (dict, list)) and each]
    if not holders:
        return rng.choice(HOSTILE)
    holder = rng.choice(holders)
    key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    match rng.randrange(5):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(["", "x", "λ", f"{key}s"])] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder *= 2
        case _:
            holder[key] = rng.choice(HOSTILE)
    return value


def spoil(path: Path, rng: random.Random) -> str:
    """Damage a file in place, or take it away; says how."""
    content = path.read_bytes()
    lines = path.suffix == ".jsonl"
    with contextlib.suppress(ValueError):
        if path.suffix in (".json", ".jsonl") and rng.random() < 0.6:
            values = [json.loads(line) for line in content.splitlines()] if lines else [json.loads(content)]
            i = rng.randrange(len(values))
            values[i] = altered(values[i], rng)
            path.write_text("".join(json.dumps(value) + "\n" * lines for value in values))
            return f"{path.name} altered"
    match rng.randrange(10):
        case 0:
            path.unlink()
            return f"{path.name} removed"
        case 1:
            path.unlink()
            path.mkdir()
            return f"{path.name} made a folder"
        case _:
            path.write_bytes(spoiled(content, rng))
            return f"{path.name} damaged"


# -- cases


@dataclass
class Case:
    """One or more commands, each to end well or in one line; later ones only if those before did well."""

    what: str
    commands: list[list[str]]
    replies: dict[str, bytes] = field(default_factory=dict)


SMALL = {
    "train.steps": 2, "train.checkpoint_every": 1, "train.eval_every": 2, "train.problems_per_step": 2,
    "group.exits": 2, "rollout.max_thought_tokens": 16, "rollout.max_answer_tokens": 2, "eval.problems": 2,
    "eval.samples": 1,
}  # fmt: skip
COSTLY = {  # what a recipe may ask any amount of: only looked at where that is more than a little
    "train.steps", "train.problems_per_step", "train.refill_cap", "train.updates_per_batch", "group.spines",
    "group.exits", "rollout.max_thought_tokens", "rollout.max_answer_tokens", "eval.problems", "eval.samples",
    "eval.max_thought_tokens", "eval.max_answer_tokens", "task.limit", "model.lora", "train.threads",
}  # fmt: skip


def small() -> Recipe:
    return load_recipe("lab-s-grpo", [f"{key}={value}" for key, value in SMALL.items()])


def recipe_case(rng: random.Random, folder: Path) -> Case:
    table = small().model_dump(exclude_none=True)
    check = [["train", "recipe.toml", "--dry-run"], ["doctor", "recipe.toml"]]
    begin = [["train", "recipe.toml", "--out", "new"]]
    path = folder / "recipe.toml"
    if rng.random() < 0.4:
        path.write_bytes(spoiled(tomli_w.dumps(table).encode(), rng))
        return Case("text", check)
    section = rng.choice(list(Recipe.model_fields))
    names = [*Recipe.model_fields[section].annotation.model_fields, "decay", "unheard_of"]
    key, value = rng.choice(names), rng.choice([value for value in HOSTILE if value is not None])
    table[section][key] = value
    with contextlib.suppress(TypeError, ValueError):
        path.write_text(tomli_w.dumps(table))
    if not path.exists():  # what TOML cannot hold
        path.write_text(f"[{section}]\n{key} = {value!r}\n")
        return Case(f"{section}.{key} = {value!r:.40}", check)
    return Case(f"{section}.{key} = {value!r:.40}", check if f"{section}.{key}" in COSTLY else check + begin)


def data_case(rng: random.Random, folder: Path) -> Case:
    rows = [{"id": f"p{i}", "prompt": f"{i} + 1", "gold": str(i + 1), "kind": "exact"} for i in range(4)]
    suffix = rng.choice(["jsonl", "jsonl", "json", "parquet"])
    path = folder / f"problems.{suffix}"
    if suffix == "parquet":
        column: list[Any] = [rng.choice([1, "a", None, 2.5, b"\xff", [1], {"a": 1}])] * 4
        table = {"prompt": [row["prompt"] for row in rows], "gold": [row["gold"] for row in rows]}
        table[rng.choice(["prompt", "gold", "id", "kind", "difficulty"])] = column
        parquet.write_table(pa.table(table), path)
        if rng.random() < 0.6:
            path.write_bytes(spoiled(path.read_bytes(), rng))
        what = "parquet"
    else:
        if rng.random() < 0.1:
            rows[1]["prompt"] = "1 + " * 2_500_000
        text = json.dumps(rows) if suffix == "json" else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text)
        what = spoil(path, rng)
    command = ["eval", "lab/arithmetic", "--task", "jsonl", "--path", path.name, "--out", "new", *SHORT]
    return Case(what, [command])


def checkpoint_case(rng: random.Random, folder: Path) -> Case:
    shutil.copytree(base_path(), folder / "model")
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
    names += ["chat_template.jinja"]
    path = folder / "model" / rng.choice([name for name in names if (folder / "model" / name).exists()])
    if path.suffix == ".safetensors" and rng.random() < 0.6:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(altered(json.loads(content[8 : 8 + length]), rng)).encode()
        claimed = rng.choice([len(header), len(header), 2**63, 0])
        path.write_bytes(claimed.to_bytes(8, "little") + header + content[8 + length :])
        what = "header of model.safetensors altered"
    else:
        what = spoil(path, rng)
    command = ["eval", "model", "--task", "arithmetic", "--problems", "2", "--out", "new", *SHORT]
    return Case(what, [command])


VERBS = [["train", "--resume", "run"], ["report", "run"], ["export", "run"], ["watch", "run", "--once"]]


def run_case(rng: random.Random, folder: Path, whole: Path) -> Case:
    """A run directory in which one file is not what it was."""
    shutil.copytree(whole, folder / "run")
    files = [path for path in (folder / "run").rglob("*") if path.is_file() and path.name != ".lock"]
    if unfinished := rng.random() < 0.5:
        (folder / "run" / "comparison.json").unlink()
        files.remove(folder / "run" / "comparison.json")
    path = rng.choice(files)
    verbs = [rng.choice(VERBS), ["compare", "run/evaluations/before", "run/evaluations/after"]]
    return Case(f"{spoil(path, rng)}{', unfinished' * unfinished}", rng.sample(verbs, 2))


def server_case(rng: random.Random, folder: Path) -> Case:
    text = "<think>\n1 + 1 = 2\n</think>\n\n2"
    usage = {"completion_tokens": 9}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    raw = {"text": "2", "finish_reason": "stop", "logprobs": {"tokens": ["2"], "token_logprobs": [-0.1]}}
    bodies: dict[str, Any] = {
        "/v1/models": {"data": [{"id": "lab/arithmetic"}]},
        "/v1/chat/completions": {"choices": [choice], "usage": usage},
        "/v1/completions": {"choices": [raw], "usage": usage},
    }
    replies = {path: reply(json.dumps(body).encode()) for path, body in bodies.items()}
    path = rng.choice(list(bodies))
    body = json.dumps(bodies[path]).encode()
    ways: dict[str, Callable[[], bytes]] = {
        "schema": lambda: reply(json.dumps(altered(bodies[path], rng)).encode()),
        "damaged JSON": lambda: reply(spoiled(body, rng)),
        "damaged reply": lambda: spoiled(reply(body), rng),
        "no choices": lambda: reply(json.dumps({"choices": []}).encode()),
        "huge": lambda: reply(body.replace(b"2", b"2" * 5_000_000, 1)),
        "HTML": lambda: reply(b"<html><body>Sign in</body></html>", kind="text/html"),
        "another type": lambda: reply(
            body, kind=rng.choice(["text/plain", "image/png", "", "application/json; x=\xff"])
        ),
        "a status": lambda: reply(body, status=rng.choice([100, 204, 301, 400, 401, 404, 418, 429, 500, 503, 999])),
        "a length too great": lambda: reply(body, length=len(body) + 10),
        "a length too small": lambda: reply(body, length=len(body) // 2),
        "closed at once": lambda: b"",
        "a compression that is none": lambda: reply(body, extra="content-encoding: gzip\r\n"),
    }
    what = rng.choice(list(ways))
    replies[path] = ways[what]()
    command = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "2", "--out", "new", *SHORT]
    command += ["--base-url", "URL", "--concurrency", "2"]
    if path == "/v1/completions" or rng.random() < 0.5:
        command += ["--tokenizer", "lab/arithmetic", "--baselines"]
    return Case(f"{path}: {what}", [command], replies)


def reply(
    body: bytes, status: int = 200, kind: str = "application/json", length: int | None = None, extra: str = ""
) -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n{extra}connection: close\r\n\r\n"
    return head.encode("latin-1") + body


@contextlib.contextmanager
def answering(replies: dict[str, bytes]) -> Iterator[str]:
    """A server that says these bytes, whatever it is asked; yields its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, IndexError, ValueError):
                path = self.rfile.readline().split()[1].decode()
                headers = dict(line.lower().split(b":", 1) for line in iter(self.rfile.readline, b"\r\n"))
                self.rfile.read(int(headers.get(b"content-length", 0)))
                self.wfile.write(replies.get(path, reply(b"{}", status=404)))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}/v1"
        listener.shutdown()


# -- what comes of them


@dataclass
class Ended:
    verb: str
    code: object
    error: str
    trace: str = ""

    @property
    def refused(self) -> bool:
        """One line that names the mistake, whatever was said of progress before."""
        lines = self.error.splitlines()
        return self.code == 2 and sum(line.startswith("error: ") for line in lines) == 1 and lines[-1][:7] == "error: "

    @property
    def good(self) -> bool:
        # the doctor says what does not fit in its table, and nothing beside it
        ended = self.code == 0 or self.refused or (self.verb == "doctor" and self.code == 2 and not self.error)
        return ended and not self.trace and "Traceback" not in self.error


class Hang(BaseException):
    """Not an `Exception`, so that nothing takes it for a failure of its own."""


def give_up(*_: object) -> None:
    raise Hang


def within(folder: Path, arguments: list[str]) -> Ended:
    """The command line, called in this process."""
    out, error = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["suffice", *arguments]
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            cli.main()
        return Ended(arguments[0], 0, error.getvalue())
    except SystemExit as stop:
        return Ended(arguments[0], stop.code or 0, error.getvalue())
    except (Exception, Hang):
        return Ended(arguments[0], None, error.getvalue(), traceback.format_exc())
    finally:
        signal.alarm(0)
        sys.argv = before


def apart(folder: Path, arguments: list[str]) -> Ended:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "suffice", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=5 * PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        return Ended(arguments[0], None, "", str(error))
    return Ended(arguments[0], done.returncode, done.stderr.decode(errors="replace"))


def outcome(kind: str, number: int, whole: Path) -> tuple[Case, list[Ended]]:
    """Case `number` of a kind, and how its commands ended."""
    rng = random.Random(f"{kind}/{number}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        case = run_case(rng, folder, whole) if kind == "run" else CASES[kind](rng, folder)
        run = apart if number % OWN_PROCESS == OWN_PROCESS - 1 and kind != "server" else within
        ended: list[Ended] = []
        with answering(case.replies) as url:
            for command in case.commands:
                ended.append(run(folder, [url if word == "URL" else word for word in command]))
                if ended[-1].code != 0:
                    break
    return case, ended


CASES = {"recipe": recipe_case, "data": data_case, "checkpoint": checkpoint_case, "server": server_case}
KINDS = [*CASES, "run"]


def impatient() -> None:
    """Servers are asked again at once and once only: here every failure is one that stays."""
    assert ServerSource.__init__.__kwdefaults__ is not None
    ServerSource.__init__.__kwdefaults__ |= {"retries": 1, "timeout": 3}
    source.CHECK_RETRIES = source.HANDSHAKE_RETRIES = 0


def cases(times: int, first: int, only: str | None) -> Iterator[dict[str, Any]]:
    torch.set_num_threads(1)
    impatient()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "run"
        train(small(), whole)
        for kind in [only] if only else KINDS:
            row: dict[str, Any] = {
                "case": kind,
                "cases": times,
                "commands": 0,
                "ended_well": 0,
                "refused_in_one_line": 0,
            }
            row |= {"defects": 0, "hangs": 0, "slowest_seconds": 0.0}
            for number in range(first, first + times):
                begun = time.monotonic()
                case, ended = outcome(kind, number, whole)
                row["slowest_seconds"] = max(row["slowest_seconds"], time.monotonic() - begun)
                row["commands"] += len(ended)
                row["ended_well"] += sum(each.good and each.code == 0 for each in ended)
                row["refused_in_one_line"] += sum(each.good and each.code != 0 for each in ended)
                for command, each in zip(case.commands, ended, strict=False):
                    if not each.good:
                        row["hangs" if "Hang" in each.trace else "defects"] += 1
                        said = f"{each.trace}{each.error[-600:]}"
                        print(f"-- {kind} {number}: {case.what}: {command}\n{said}", file=sys.stderr, flush=True)
            yield row


def main(
    times: int = 250,
    first: int = 0,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(KINDS)}.")] = None,
    as_json: Json = False,
    record: Record = False,
) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    publish("fuzz", cases(times, first, only), as_json=as_json, record=record)


if __name__ == "__main__":
    typer.run(main)

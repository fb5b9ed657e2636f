"""The command line as a user meets it: what works, and that every mistake is one line, exit code 2, nothing made."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.main import get_command

from disk import files_of_at_most, names, snapshot
from running import PATIENCE, struck
from suffice import __version__, cli
from suffice.config import load_recipe
from suffice.lab import base_path
from suffice.methods import list_methods

pytestmark = pytest.mark.slow


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All verbs of the command line, such as `lab build`, each with what it takes."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


VERBS = dict(commands(get_command(cli.app)))
SHORT = ["--max-thought-tokens", "20", "--max-answer-tokens", "4"]
EVAL = ["eval", "lab/arithmetic", "--task", "arithmetic", "--problems", "2", "--samples", "1", *SHORT]
QUICK = {
    "train.problems_per_step": 2,
    "group.exits": 2,
    "train.eval_every": 0,
    "rollout.max_thought_tokens": 20,
    "train.steps": 1,
}


class Said(NamedTuple):
    code: object
    out: str
    err: str


def settings(**changes: object) -> list[str]:
    """`--set` for a training of seconds; changes are written `train__steps=2`."""
    chosen = QUICK | {key.replace("__", "."): value for key, value in changes.items()}
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def training(**changes: object) -> list[str]:
    return ["train", "lab-s-grpo", "--out", "run", *settings(**changes)]


@pytest.fixture
def suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs the command line in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["suffice", *map(str, arguments)])
        try:
            cli.main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code or 0
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(suffice: Callable[..., Said], tmp_path: Path) -> Callable[..., str]:
    """Runs a wrong use and returns its one line: exit code 2, nothing on standard output, no file made or changed."""

    def run(*arguments: object) -> str:
        before = snapshot(tmp_path), sorted(tmp_path.rglob("*"))
        said = suffice(*arguments)
        assert said.code == 2, said
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1, said.err
        assert (snapshot(tmp_path), sorted(tmp_path.rglob("*"))) == before
        return said.err

    return run


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """The lab's base as a folder `model`, a file of it rewritten by `edit` (None: removed)."""

    def make(name: str, edit: Callable[[str], str] | None) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(base_path(), folder)
        if edit is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(edit((folder / name).read_text(encoding="utf-8")), encoding="utf-8")
        return folder

    return make


def problem_file(folder: Path, *lines: str) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def in_a_process(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# -- what works


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "diagnose"),
        (["train", "--help"], "--resume"),
        (["methods"], "grpo-lambda"),
        (["train", "lab-s-grpo", "--dry-run"], "s-grpo"),
        (["bench", "quick", "--dry-run"], "steps 15, 30, 45, 60"),
    ],
)
def test_what_only_says_something_loads_nothing_heavy(tmp_path: Path, arguments: list[str], said: str):
    heavy = {"torch", "transformers", "numpy", "scipy", "datasets", "matplotlib"}
    script = (
        f"import sys\nsys.argv = ['suffice', *{arguments}]\nfrom suffice.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    found = in_a_process(tmp_path, "-c", script)
    assert found.returncode == 0, found.stderr
    assert said in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_version_is_said(suffice: Callable[..., Said]):
    assert suffice("--version") == (0, f"{__version__}\n", "")


def test_the_package_runs_as_a_module(tmp_path: Path):
    found = in_a_process(tmp_path, "-m", "suffice", "train", "--help")
    assert found.returncode == 0, found.stderr
    assert "--resume" in found.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(suffice: Callable[..., Said], verb: str):
    said = suffice(*verb.split(), "--help")
    assert said.code == 0
    assert "Usage" in said.out


def test_methods_lists_them_all_as_text_and_as_json(suffice: Callable[..., Said]):
    assert all(name in suffice("methods").out for name in list_methods())
    assert list(json.loads(suffice("methods", "--json").out)) == list_methods()


def test_doctor_finds_the_shipped_model_and_the_grader_at_work(suffice: Callable[..., Said]):
    said = suffice("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(said.out)}
    assert said.code == 0
    assert findings["grader"]["found"] == "7^20000 + 2 - 7^20000 against 2 is CORRECT"
    assert "loads" in findings["shipped model"]["found"]


def test_a_dry_run_prints_a_recipe_that_loads_and_makes_nothing(suffice: Callable[..., Said], tmp_path: Path):
    said = suffice("train", "lab-s-grpo", "--dry-run", "--set", "train.steps=7")
    assert said.code == 0
    assert names(tmp_path) == []
    assert tomllib.loads(said.out)["train"]["steps"] == 7
    (tmp_path / "printed.toml").write_text(said.out)
    assert load_recipe("printed.toml") == load_recipe("lab-s-grpo", ["train.steps=7"])


def test_evaluations_are_compared_and_reported(suffice: Callable[..., Said], tmp_path: Path, tiny_qwen3: Path):
    first = suffice(*EVAL, "--out", "first", "--json")
    assert first.code == 0, first.err
    assert json.loads(first.out)["protocol"]["problems"] == 2
    assert suffice("eval", tiny_qwen3, *EVAL[2:], "--out", "second").code == 0
    said = suffice("compare", "first", "second", "--json")
    assert said.code == 0, said.err
    assert list(json.loads(said.out)["tasks"]) == ["arithmetic"]
    assert suffice("report", "first").code == 0
    assert (tmp_path / "first" / "report.html").stat().st_size > 1000


def test_a_published_protocol_and_every_sampler_belong_to_the_records(
    suffice: Callable[..., Said], refused: Callable[..., str], tmp_path: Path
):
    asked = [*EVAL[:6], *SHORT]
    assert suffice(*asked, "--protocol", "paper", "--out", "paper").code == 0
    summary = json.loads((tmp_path / "paper/evaluations/arithmetic/summary.json").read_text())
    found = summary["protocol"]
    assert (found["name"], found["samples"], found["temperature"], found["top_k"]) == ("paper", 4, 0.6, 0)
    assert [each["k"] for each in summary["metrics"]["together"]] == [2, 4]
    own = ["--samples", "1", "--top-k", "5", "--min-p", "0.1", "--presence-penalty", "0.5"]
    said = suffice(*asked, *own, "--out", "own", "--json")
    assert {
        name: json.loads(said.out)["protocol"][name] for name in ("top_k", "min_p", "presence_penalty", "name")
    } == {
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.5,
        "name": None,
    }
    said = suffice("compare", "paper", "own")
    assert "sampled differently, top_k 0 for " in said.out + said.err
    assert "there are: paper, qwen3" in refused(*asked, "--protocol", "qwen2")
    assert "lower the budgets, without --protocol qwen3" in refused(*EVAL[:6], "--protocol", "qwen3")


def test_an_evaluation_of_a_single_problem_has_no_interval(
    suffice: Callable[..., Said], refused: Callable[..., str], tmp_path: Path
):
    path = problem_file(tmp_path, '{"prompt": "a = 1 , b = a + 1 , a b ?", "gold": "1 2", "kind": "exact"}')
    arguments = ["lab/arithmetic", "--task", "jsonl", "--path", path, *SHORT]
    assert suffice("eval", *arguments, "--out", "found").code == 0
    summary = json.loads((tmp_path / "found/evaluations/jsonl/summary.json").read_text())
    assert summary["metrics"]["accuracy"]["low"] is None
    too_few = "an interval needs at least 2"
    assert too_few in refused("compare", "found", "found")
    assert too_few in refused("diagnose", *arguments)
    assert too_few in refused(*training(train__eval_every=1, eval__task="jsonl", eval__path=path))


def test_a_diagnosis_writes_records_and_a_picture(suffice: Callable[..., Said], tmp_path: Path):
    said = suffice("diagnose", *EVAL[1:], "--out", "found")
    assert said.code == 0, said.err
    assert names(tmp_path / "found" / "diagnosis" / "arithmetic") == ["records.jsonl", "summary.json"]
    assert "No conclusion" in said.out  # thoughts of 20 tokens end in nothing right
    assert "suffice train" not in said.out


def test_what_a_diagnosis_advises_next_works(suffice: Callable[..., Said]):
    said = suffice("diagnose", "lab/arithmetic", "--task", "arithmetic", "--problems", "40", "--out", "found")
    assert "Worth training" in said.out
    (advised,) = [line for line in said.out.splitlines() if line.startswith("Next: suffice train")]
    assert suffice(*shlex.split(advised.removeprefix("Next: suffice ")), "--dry-run").code == 0


def test_what_an_evaluation_advises_next_works(suffice: Callable[..., Said]):
    for options in ([], ["--budgets", "8"]):
        said = suffice(*EVAL, *options, "--out", f"found{len(options)}")
        advised = said.out.splitlines()[-1].partition(".")[0].removeprefix("Next: suffice ")
        assert suffice(*advised.split()).code == 0, advised


def test_a_training_with_evaluations_leaves_all_that_a_report_needs(suffice: Callable[..., Said], tmp_path: Path):
    said = suffice(*training(train__eval_every=1, eval__problems=2, eval__samples=1, train__steps=2))
    assert said.code == 0, said.err
    assert names(tmp_path / "run" / "checkpoints") == ["step-000002"]
    assert {"before", "after", "before-greedy", "after-greedy"} <= set(names(tmp_path / "run" / "evaluations"))
    assert (tmp_path / "run" / "comparison.json").exists()
    assert suffice("report", "run").code == 0
    assert suffice("eval", "run", *EVAL[2:], "--out", "again").code == 0


# -- a model that cannot be used


@pytest.mark.parametrize("model", ["nothing/here/model", "./nothing", "/nothing", "nothing"])
def test_a_model_that_is_not_there_is_refused(refused: Callable[..., str], model: str):
    assert "give a Hugging Face checkpoint folder, a hub id" in refused("eval", model, *EVAL[2:])
    assert f"no model at {model}" in refused(*training(model__path=model))


def test_a_folder_without_a_config_is_no_model(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "folder").mkdir()
    assert "folder holds no config.json" in refused("eval", "folder", *EVAL[2:])
    assert "folder holds no config.json" in refused(*training(model__path="folder"))


def test_a_run_without_checkpoints_is_no_model(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    assert "train it first" in refused("eval", "empty", *EVAL[2:])


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path):
    found = in_a_process(tmp_path, "-m", "suffice", *training(model__path="someone/some-model"), HF_HUB_OFFLINE="1")
    assert found.returncode == 2
    assert found.stderr.startswith("error: cannot load the tokenizer of someone/some-model")
    assert found.stderr.count("\n") == 1
    assert "give a local checkpoint folder" in found.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "edit", "words"),
    [
        ("config.json", lambda text: text[:20], "not a valid JSON file"),
        ("config.json", lambda text: "[]", "config.json is not a JSON object"),
        ("config.json", lambda text: "{}", "model_type"),
        ("config.json", lambda text: text.replace('"intermediate_size": 192', '"intermediate_size": 96'), "lacks 6"),
        ("model.safetensors", None, "no file named model.safetensors"),
        ("tokenizer.json", None, "cannot load the tokenizer"),
        ("tokenizer.json", lambda text: text[:100], "cannot load the tokenizer"),
        ("generation_config.json", lambda text: "{x", "generation_config.json is not valid JSON"),
        ("chat_template.jinja", None, "has no chat template"),
        ("chat_template.jinja", lambda text: "{% for %}", "mend its chat_template.jinja"),
        ("chat_template.jinja", lambda text: text.replace("nt\n", "nt\n<think>\n\n</think>\n\n"), "empty thought"),
        ("tokenizer.json", lambda text: text.replace("</think>", "</thunk>"), "no marks of a thought"),
        ("tokenizer.json", lambda text: text.replace("<think>", "<thunk>"), "no marks of a thought"),
        ("tokenizer.json", lambda text: text.replace('"limited"', '"unlimited"'), "inducer has words"),
    ],
)
def test_a_damaged_or_unsuited_checkpoint_is_refused(
    refused: Callable[..., str],
    edited: Callable[..., Path],
    file: str,
    edit: Callable[[str], str] | None,
    words: str,
):
    edited(file, edit)
    if "no marks" not in words:  # without them a model can be evaluated, and not trained
        assert words in refused("eval", "model", *EVAL[2:])
    assert words in refused(*training(model__path="model"))


def test_weights_that_were_cut_off_are_refused(refused: Callable[..., str], edited: Callable[..., Path]):
    weights = edited("lab.json", None) / "model.safetensors"
    for size in (200_000, 100, 4, 0):
        weights.write_bytes(weights.read_bytes()[:size])
        assert "give a complete checkpoint" in refused("eval", "model", *EVAL[2:])


def test_a_checkpoint_without_one_of_its_weights_is_refused_and_not_filled_at_random(
    refused: Callable[..., str], edited: Callable[..., Path]
):
    weights = edited("lab.json", None) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    text = refused("eval", "model", *EVAL[2:])
    assert "lacks 1 weights" in text
    assert "model.layers.1.mlp.up_proj.weight" in text


def test_pickled_weights_are_not_loaded(refused: Callable[..., str], edited: Callable[..., Path]):
    folder = edited("model.safetensors", None)
    torch.save(load_file(base_path() / "model.safetensors"), folder / "pytorch_model.bin")
    assert "model.safetensors" in refused("eval", "model", *EVAL[2:])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(refused: Callable[..., str]):
    assert "torch sees no GPU" in refused(*EVAL, "--device", "cuda")
    assert "torch sees no GPU" in refused(*training(model__device="cuda"))


def test_an_unknown_device_is_refused(refused: Callable[..., str]):
    assert "use auto, cpu or cuda" in refused(*EVAL, "--device", "tpu")


@pytest.mark.parametrize(
    ("inducer", "words"),
    [
        ('"Stop thinking ."', "must hold </think> exactly once"),
        ('"</think> </think>"', "must hold </think> exactly once"),
        ('"Hurry, basta!\\n</think>\\n\\n"', "has words"),
    ],
)
def test_an_inducer_that_does_not_close_the_thought_in_known_words_is_refused(
    refused: Callable[..., str], inducer: str, words: str
):
    assert words in refused(*training(rollout__inducer=inducer))


def test_budgets_beyond_the_models_positions_are_refused(refused: Callable[..., str]):
    beyond = "but the model has 512; lower the budgets"
    assert beyond in refused(*EVAL, "--max-thought-tokens", "600")
    assert beyond in refused(*training(rollout__max_thought_tokens=600))
    assert beyond in refused(*training(train__eval_every=1, eval__max_thought_tokens=600))


# -- problems that cannot be used

GOOD = '{"prompt": "1 + 1 ?", "gold": "2"}'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "no problem in it"),
        ([GOOD, '{"prompt": '], "problems.jsonl:2: malformed JSON"),
        ([GOOD, "", "[1]"], "problems.jsonl:3: not an object"),
        ([GOOD, '{"prompt": "2 + 2 ?"}'], "problems.jsonl:2: no gold"),
        ([GOOD, '{"prompt": "2 + 2 ?", "gold": "  "}'], "problems.jsonl:2: no gold"),
        ([GOOD, '{"prompt": "2 + 2 ?", "gold": "4", "kind": "essay"}'], "problems.jsonl:2: unknown kind"),
        (
            [GOOD, '{"prompt": "A or B ?", "gold": "both", "kind": "choice"}'],
            "problems.jsonl:2: gold answer 'both' is no",
        ),
    ],
)
def test_a_problem_file_that_is_not_good_is_refused_with_the_line(
    refused: Callable[..., str], tmp_path: Path, lines: list[str], words: str
):
    problem_file(tmp_path, *lines)
    assert words in refused("eval", "lab/arithmetic", "--task", "jsonl", "--path", "problems.jsonl", *SHORT)
    assert words in refused(*training(task__name="jsonl", task__path="problems.jsonl"))


def test_data_that_is_not_there_is_refused(refused: Callable[..., str]):
    assert "does not exist" in refused("eval", "lab/arithmetic", "--task", "gsm8k", "--path", "nothing.jsonl")
    assert "does not exist" in refused(*training(task__name="jsonl", task__path="nothing.jsonl"))
    missing = {"train__eval_every": 1, "eval__task": "jsonl", "eval__path": "nothing.jsonl"}
    assert "does not exist" in refused(*training(**missing))


def test_an_unknown_task_names_the_nearest(refused: Callable[..., str]):
    assert "did you mean 'gsm8k'?" in refused("diagnose", "lab/arithmetic", "--task", "gsm8")
    assert "did you mean 'arithmetic'?" in refused(*training(task__name="aritmetic"))
    assert "use 'train' or 'test'" in refused(*EVAL, "--split", "validation")


def test_more_problems_a_step_than_there_are_is_refused(refused: Callable[..., str]):
    text = refused(*training(task__limit=3, train__problems_per_step=4))
    assert "train.problems_per_step is 4 but arithmetic has 3 problems" in text


# -- recipes and runs that cannot be used


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.stpes=1", "did you mean steps?"),
        ("train.steps=0", "greater than or equal to 1"),
        ("steps=1", "section.key=value"),
        ("method.lam=2", "unknown key method.lam"),
        ("method.name=grpo", "grpo samples parallel groups"),
        ("group.exits=0", "set group.exits to 1 or more"),
    ],
)
def test_a_recipe_that_is_not_good_is_refused(refused: Callable[..., str], override: str, words: str):
    assert words in refused("train", "lab-s-grpo", "--set", override)


def test_a_group_of_one_is_refused(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "one.toml").write_text('[method]\nname = "grpo"\n[group]\nspines = 1\nexits = 0\n')
    assert "set group.spines to 2 or more" in refused("train", "one.toml")


def test_a_file_that_is_no_recipe_is_refused(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    assert "give a .toml file" in refused("train", "binary.toml")
    assert "give a .toml file" in refused("train", "folder")
    assert "did you mean lab-s-grpo?" in refused("train", "lab-s-grp")


def test_a_training_without_a_recipe_is_shown_what_there_is(refused: Callable[..., str]):
    assert "give a recipe (lab-" in refused("train")


@pytest.mark.parametrize(
    "verb",
    [
        [*EVAL, "--out"],
        ["diagnose", *EVAL[1:], "--out"],
        ["train", "lab-s-grpo", "--out"],
        ["demo", "--out"],
        ["lab", "build", "--steps", "1"],
    ],
)
def test_an_existing_directory_is_refused_by_every_verb(refused: Callable[..., str], tmp_path: Path, verb: list[str]):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious.txt").write_text("precious")
    assert refused(*verb, "taken") == "error: taken exists already; choose another directory\n"


@pytest.mark.parametrize(("file", "verb"), [("recipe.toml", "train"), ("request.json", "eval or diagnose")])
def test_a_run_that_was_begun_can_be_continued(refused: Callable[..., str], tmp_path: Path, file: str, verb: str):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / file).touch()
    assert f"or continue what was begun there: suffice {verb} --resume taken" in refused("demo", "--out", "taken")


def test_a_run_directory_below_a_file_is_refused(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "file").touch()
    assert "file/run" in refused(*EVAL, "--out", "file/run")
    assert "file/run" in refused("train", "lab-s-grpo", "--out", "file/run", *settings())


def test_what_is_no_run_cannot_be_resumed(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "folder").mkdir()
    for path in ("folder", "nothing"):
        assert f"{path} is not a run directory" in refused("train", "--resume", path)


GOES_WITH_RESUME = {"resume", "as_json", "engine", "dry_run"}


def beside_resume() -> Iterator[tuple[str, list[str], str]]:
    """(verb, words on the command line, what is refused) for everything that a run to resume has decided already."""
    for verb, command in VERBS.items():
        if any(each.name == "resume" for each in command.params):
            for each in command.params:
                if each.name in GOES_WITH_RESUME | {"help"}:
                    continue
                value = "2" if each.name == "problems" else "1"
                if each.param_type_name == "argument":
                    yield verb, [value], each.metavar
                else:
                    yield verb, [each.opts[0]] if each.is_flag else [each.opts[0], value], each.opts[0]


@pytest.mark.parametrize(("verb", "words", "named"), list(beside_resume()))
def test_whatever_else_is_given_with_resume_is_refused_by_name(
    refused: Callable[..., str], verb: str, words: list[str], named: str
):
    assert f"--resume continues a run as it was: leave {named} out" in refused(verb, *words, "--resume", "run")


def test_every_option_that_resume_would_ignore_is_named_at_once(refused: Callable[..., str]):
    words = [
        "--samples",
        "4",
        "lab/arithmetic",
        "--baselines",
        "--resume",
        "run",
    ]  # 4 is the default, but was asked for
    assert "leave MODEL and --samples and --baselines out" in refused("eval", *words)


def test_a_resumed_run_keeps_its_engine(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text(load_recipe("lab-s-grpo").dump())
    said = refused("train", "--resume", "run", "--engine", "verl")
    assert "run was trained with --engine local: leave --engine out" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["eval", "m", "--task", "gsm8k", "--protocol", "paper", "--samples", "2"], "--samples"),
        (["eval", "m", "--task", "gsm8k", "--protocol", "paper", "--temperature", "1"], "--temperature"),
        (["eval", "m", "--task", "gsm8k", "--protocol", "qwen3", "--top-k", "20"], "--top-k"),
        (["eval", "m", "--task", "gsm8k", "--protocol", "qwen3", "--max-answer-tokens", "9"], "--max-answer-tokens"),
        (["eval", "m", "--task", "gsm8k", "--concurrency", "8"], "--concurrency"),
        (["diagnose", "m", "--task", "gsm8k", "--tokenizer", "t", "--api-key-env", "K"], "--tokenizer and --api-key"),
        (["eval", "m", "--task", "gsm8k", "--base-url", "http://localhost:1/v1", "--device", "cpu"], "--device"),
        (["diagnose", "m", "--from", "records.jsonl", "--task", "gsm8k"], "--task"),
        (["doctor", "--gpu", "H100", "--set", "train.steps=1"], "--set and --gpu"),
        (
            ["diagnose", "m", "--from", "records.jsonl", "--problems", "9", "--temperature", "1"],
            "--temperature and --p",
        ),
    ],
)
def test_an_option_that_another_makes_meaningless_is_refused_by_name(
    refused: Callable[..., str], words: list[str], named: str
):
    assert f"leave {named}" in refused(*words)


@pytest.mark.parametrize("text", ["", "512,", "x", "0", "-1", "1.5", "9" * 5000])
def test_budgets_that_are_no_numbers_are_refused(refused: Callable[..., str], text: str):
    assert "is not a list of whole numbers from 1 on, such as 8,16,32" in refused(*EVAL, "--budgets", text)


def test_evaluations_of_different_questions_are_not_compared(suffice: Callable[..., Said], refused: Callable[..., str]):
    assert suffice(*EVAL, "--out", "first").code == 0
    assert suffice(*EVAL, "--seed", "1", "--out", "second").code == 0
    text = refused("compare", "first", "second")
    assert "differ in 4 questions" in text
    assert "evaluate both on the same task" in text


def test_what_is_no_evaluation_cannot_be_compared(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "folder").mkdir()
    assert "is missing" in refused("compare", "folder", "nothing")


def test_a_damaged_evaluation_is_named_by_file_and_line(
    suffice: Callable[..., Said], refused: Callable[..., str], tmp_path: Path
):
    assert suffice(*EVAL, "--out", "first").code == 0
    records = tmp_path / "first/evaluations/arithmetic/records.jsonl"
    records.write_text("{broken\n" + records.read_text())
    assert "records.jsonl:1 is not valid JSON" in refused("compare", "first", "first")
    assert "records.jsonl:1 is not valid JSON" in refused("report", "first")


def test_a_run_with_nothing_to_report_is_refused(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert "has nothing to report" in refused("report", "folder")
    assert "is not a directory" in refused("report", "file")
    assert "is not a directory" in refused("report", "nothing")


@pytest.mark.parametrize(
    "options",
    [
        ["--problems", "1"],
        ["--samples", "0"],
        ["--temperature", "-1"],
        ["--top-p", "1.5"],
        ["--max-thought-tokens", "0"],
        ["--seed", "-1"],
        ["--samples", "many"],
    ],
)
def test_an_option_out_of_range_is_a_usage_error(suffice: Callable[..., Said], tmp_path: Path, options: list[str]):
    said = suffice(*EVAL, *options)
    assert said.code == 2
    assert options[0] in said.err
    assert "Traceback" not in said.err
    assert names(tmp_path) == []


# -- runs that end early


@pytest.fixture
def half_done(suffice: Callable[..., Said], tmp_path: Path) -> Path:
    """A run of four steps as a process killed after the third leaves it: its last checkpoint is that of step two.

    Beside it lies `straight`, the same run undisturbed.
    """
    arguments = training(train__steps=4, train__checkpoint_every=2)
    assert suffice(*arguments).code == 0
    run = tmp_path / "run"
    shutil.copytree(run, tmp_path / "straight")
    shutil.rmtree(run / "checkpoints" / "step-000004")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:40])
    return run


def test_a_resumed_run_ends_in_the_very_weights_of_an_undisturbed_one(
    suffice: Callable[..., Said], half_done: Path, tmp_path: Path
):
    assert suffice("train", "--resume", "run").code == 0
    assert steps_of(half_done) == [1, 2, 3, 4]
    for file in ("model.safetensors", "trainer.tensors"):
        resumed, straight = (path / "checkpoints/step-000004" / file for path in (half_done, tmp_path / "straight"))
        assert resumed.read_bytes() == straight.read_bytes()
    metrics = [
        [
            {key: value for key, value in json.loads(line).items() if not key.startswith("seconds")}
            for line in (path / "metrics.jsonl").read_text().splitlines()
        ]
        for path in (half_done, tmp_path / "straight")
    ]
    assert metrics[0] == metrics[1]


def test_a_full_disk_while_saving_keeps_the_former_checkpoint_and_the_run_can_go_on(
    suffice: Callable[..., Said], half_done: Path
):
    former = snapshot(half_done / "checkpoints")
    with files_of_at_most(200_000):
        said = suffice("train", "--resume", "run")
    assert said.code == 2
    mistakes = [line for line in said.err.splitlines() if not line.startswith("train ")]  # progress is shown as well
    assert len(mistakes) == 1
    assert "step-000004: File too large; nothing was half-written: free space" in mistakes[0]
    assert snapshot(half_done / "checkpoints") == former
    assert names(half_done / "checkpoints") == ["step-000002"]
    assert suffice("train", "--resume", "run").code == 0
    assert steps_of(half_done) == [1, 2, 3, 4]


def test_a_full_disk_while_saving_the_first_checkpoint_leaves_no_half_of_it(
    suffice: Callable[..., Said], tmp_path: Path
):
    with files_of_at_most(200_000):
        said = suffice(*training())
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("error: cannot write run/checkpoints/step-000001")
    assert names(tmp_path / "run" / "checkpoints") == []


def test_ctrl_c_saves_the_step_and_the_run_can_be_finished(suffice: Callable[..., Said], tmp_path: Path):
    code, said = struck(tmp_path, signal.SIGINT, r"/metrics\.jsonl$", *training(train__steps=3))
    assert code == 130, said
    assert said.splitlines()[-1] == "stopped after step 1; continue with: suffice train --resume run"
    assert steps_of(tmp_path / "run") == [1]
    assert names(tmp_path / "run" / "checkpoints") == ["step-000001"]
    assert suffice("train", "--resume", "run").code == 0
    assert steps_of(tmp_path / "run") == [1, 2, 3]


@pytest.mark.parametrize(("number", "done"), [(signal.SIGINT, [1, 2]), (signal.SIGTERM, [1])])
def test_a_run_begun_in_the_background_leaves_ctrl_c_to_others_and_hears_sigterm(
    tmp_path: Path, number: signal.Signals, done: list[int]
):
    """A shell starts a background command with SIGINT ignored, as Ctrl-C in its terminal reaches that one too."""

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    code, said = struck(tmp_path, number, r"/metrics\.jsonl$", *training(train__steps=2), preexec_fn=ignore)
    assert code == (0 if number == signal.SIGINT else 130), said
    assert steps_of(tmp_path / "run") == done


def test_ctrl_c_and_sigterm_do_not_reach_the_grading_workers(tmp_path: Path):
    script = (
        "import os, signal, psutil\n"
        "from suffice.grading import Grader\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(number, lambda *_: None)\n"
        "job = (r'\\boxed{7^{20000} + 2 - 7^{20000}}', '2', 'math')\n"
        "with Grader(deadline=30) as grader:\n"
        "    print(grader.grade(*job))\n"
        "    children = [child.pid for child in psutil.Process().children()]\n"
        "    for number in (signal.SIGINT, signal.SIGTERM):\n"
        "        os.killpg(0, number)\n"
        "        os.kill(children[0], number)\n"
        "        print(grader.grade(*job))\n"
        "    print([child.pid for child in psutil.Process().children()] == children)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert said.split() == ["CORRECT", "CORRECT", "CORRECT", "True"]

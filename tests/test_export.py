"""Export: the model that leaves a run is the one that was trained, and its card says what was measured."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from disk import files_of_at_most, names
from running import small
from suffice import cli
from suffice.card import hub_id
from suffice.engines.local import train
from suffice.engines.local.build import build_engine
from suffice.errors import RunError
from suffice.evaluation.recorded import diagnose_recorded
from suffice.export import export, serve_command
from suffice.grading import Grader
from suffice.lab import base_path
from suffice.model.load import load_model
from suffice.run.directory import Run
from suffice.run.files import read_json, write_json
from suffice.run.layout import AFTER, BEFORE

IDS = torch.arange(3, 19)[None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, evaluated before, in the middle and after."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(small(train__eval_every=1), run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    return shutil.copytree(trained, tmp_path / "run")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def card_of(run: Path, **options: Any) -> str:
    folder = export(run, **options).folder
    return (folder / "README.md").read_text(encoding="utf-8")


def percent(figure: dict[str, float]) -> str:
    mean, low, high = (f"{100 * figure[key]:.1f}" for key in ("mean", "low", "high"))
    return f"{mean} % ({low} to {high})"


def tokens(figure: dict[str, float]) -> str:
    return "{mean:.1f} ({low:.1f} to {high:.1f})".format(**figure)


def row(card: str, name: str) -> list[str]:
    """The cells of a row of the card's table, narrow spaces as plain ones."""
    line = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip().replace("\u202f", " ") for cell in line.strip("|").split("|")][1:]


def refusal(run: Path, **options: Any) -> str:
    before = sorted(run.parent.rglob("*"))
    with pytest.raises(RunError) as caught:
        export(run, **options)
    assert sorted(run.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- the model


@pytest.mark.slow
def test_the_exported_model_computes_what_the_checkpoint_does(trained: Path, tmp_path: Path):
    exported = export(trained, tmp_path / "model")
    assert (exported.folder, exported.step) == (tmp_path / "model", 2)
    ours = logits(AutoModelForCausalLM.from_pretrained(exported.folder).eval())
    assert torch.equal(ours, logits(load_model(str(Run(trained).checkpoint(2)), device="cpu")))
    assert not torch.equal(ours, logits(load_model("lab/arithmetic", device="cpu")))


@pytest.mark.slow
def test_an_exported_lora_model_needs_no_peft_and_computes_what_base_and_adapters_do(tmp_path: Path):
    recipe, run = small(model__lora=4), tmp_path / "run"
    train(recipe, run)
    model = AutoModelForCausalLM.from_pretrained(export(run).folder).eval()
    with Grader() as grader:
        adapted = build_engine(recipe, grader, Run(run).checkpoint(2))[0].model.eval()
    assert any(".lora_" in name for name, _ in adapted.named_parameters())
    plain = load_model("lab/arithmetic", device="cpu")
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in plain.named_parameters()}
    # float32: some hundred roundings of 2⁻²⁴ of the largest logit
    assert (logits(model) - logits(adapted)).abs().max() <= 1e-4 * logits(plain).abs().max()
    assert (logits(model) - logits(plain)).abs().max() >= 1e-2


@pytest.mark.slow
def test_tokenizer_template_and_generation_config_go_along_and_the_trainers_files_do_not(run: Path):
    folder = export(run).folder
    ours, base = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(base_path())
    turn = [{"role": "user", "content": "3 + 4"}]
    rendered = [each.apply_chat_template(turn, add_generation_prompt=True, tokenize=False) for each in (ours, base)]
    assert rendered[0] == rendered[1]
    assert ours.get_vocab() == base.get_vocab()
    ends = [GenerationConfig.from_pretrained(each).eos_token_id for each in (folder, base_path())]
    assert ends[0] == ends[1] == 2
    assert folder == run / "export"
    assert {"model.safetensors", "config.json", "README.md"} <= set(names(folder))
    assert not [name for name in names(folder) if name.startswith("trainer.")]


@pytest.mark.slow
def test_a_diagnosed_checkpoint_says_which_budget_to_serve(run: Path, tmp_path: Path):
    assert "thinking_token_budget" not in card_of(run, out=tmp_path / "undiagnosed")
    assert export(run, tmp_path / "plain").lines == []
    path = tmp_path / "exits.jsonl"
    known = {"gold": "7", "thought_tokens": 100, "exits": [[60, "7"]], "answer": "7"}
    path.write_text("".join(json.dumps({"id": i} | known) + "\n" for i in range(200)), encoding="utf-8")
    with Grader() as grader:
        diagnosis = diagnose_recorded(path, {}, grader)
    Run(run).write_diagnosis(AFTER, diagnosis)
    Run(run).write_diagnosis(BEFORE, diagnosis)
    exported = export(run, tmp_path / "diagnosed")
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    said = "Serve a thinking budget of 60 tokens: +0.0 points (−1.5 to +1.5)"
    assert exported.budget.startswith(said)
    assert f"This checkpoint: {said}" in card
    assert f"The base, for comparison: {said}" in card
    assert '`{"thinking_token_budget": 60}`' in card
    assert str(exported.folder) in exported.lines[0].start
    assert str(exported.folder) not in card  # it moves with its folder
    assert "This checkpoint" not in card_of(run, out=tmp_path / "earlier", step=1)  # that was not diagnosed


@pytest.mark.slow
def test_an_earlier_checkpoint_is_exported_by_its_step(run: Path):
    exported = export(run, step=1)
    assert exported.step == 1
    ours = logits(AutoModelForCausalLM.from_pretrained(exported.folder).eval())
    assert torch.equal(ours, logits(load_model(str(Run(run).checkpoint(1)), device="cpu")))


# -- the card


@pytest.mark.slow
def test_the_figures_of_the_card_are_those_of_the_evaluations(run: Path):
    card = card_of(run)
    for kind, suffix in (("sampled", ""), ("greedy", "-greedy")):
        ends = [read_json(run / "evaluations" / f"{end}{suffix}" / "summary.json") for end in ("before", "after")]
        before, after = (each["metrics"] for each in ends)
        compared = read_json(run / "comparison.json")
        compared = compared if kind == "sampled" else compared["greedy"]
        accuracy, change = compared["accuracy"], compared["thought_tokens_change"]
        assert row(card, f"accuracy, {kind}") == [
            percent(before["accuracy"]),
            percent(after["accuracy"]),
            "{difference:+.1f} points ({low:+.1f} to {high:+.1f})".format(
                **{key: 100 * value for key, value in accuracy.items()}
            ).replace("-", "−"),
        ]
        assert row(card, f"thinking tokens, {kind}") == [
            tokens(before["thought_tokens"]),
            tokens(after["thought_tokens"]),
            "{mean:+.0f} % ({low:+.0f} to {high:+.0f})".format(
                **{key: 100 * value for key, value in change.items()}
            ).replace("-", "−"),
        ]
    assert "8 problems, drawn with seed 0" in card


@pytest.mark.slow
def test_the_card_of_an_earlier_step_has_the_figures_of_that_step(run: Path):
    card = card_of(run, step=1)
    middle = read_json(run / "evaluations" / "step-000001" / "summary.json")["metrics"]
    assert row(card, "accuracy, sampled")[1] == percent(middle["accuracy"])
    assert row(card, "thinking tokens, sampled")[1] == tokens(middle["thought_tokens"])
    assert "step 1 of 2" in card


@pytest.mark.slow
def test_a_checkpoint_that_was_not_evaluated_claims_nothing(run: Path):
    shutil.rmtree(run / "evaluations" / "after-greedy")
    card = card_of(run)
    assert "has not been evaluated" in card
    assert "| before |" not in card


@pytest.mark.slow
def test_the_front_matter_is_valid_and_names_a_base_only_where_the_hub_has_it(run: Path):
    _, front, body = card_of(run).split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["library_name"] == "transformers"
    assert matter["pipeline_tag"] == "text-generation"
    assert {"suffice", "s-grpo"} <= set(matter["tags"])
    assert "base_model" not in matter
    assert "# lab/arithmetic, trained with s-grpo" in body

    recipe = (run / "recipe.toml").read_text(encoding="utf-8")
    (run / "recipe.toml").write_text(recipe.replace("lab/arithmetic", "Qwen/Qwen3-1.7B"), encoding="utf-8")
    front = card_of(run, out=run / "again").split("---\n", 2)[1]
    assert yaml.safe_load(front)["base_model"] == "Qwen/Qwen3-1.7B"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("Qwen/Qwen3-8B", True),
        ("lab/arithmetic", False),
        ("lab/ballots", False),
        ("lab/sums", False),
        ("./a/b", False),
        ("/srv/model", False),
    ],
)
def test_only_an_owner_and_a_name_is_a_hub_id(path: str, named: bool):
    assert hub_id(path) == (path if named else None)


@pytest.mark.slow
def test_a_local_base_is_named_without_the_folders_it_lies_in(run: Path):
    recipe = (run / "recipe.toml").read_text(encoding="utf-8")
    (run / "recipe.toml").write_text(recipe.replace("lab/arithmetic", "/home/someone/private/base"), encoding="utf-8")
    assert "# base, trained with s-grpo" in card_of(run)


@pytest.mark.slow
def test_the_recipe_in_the_card_is_the_one_of_the_run(run: Path):
    recipe = re.search(r"~~~~toml\n(.*?)~~~~", card_of(run), re.DOTALL)
    assert recipe is not None
    assert recipe[1] == (run / "recipe.toml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_card_runs(run: Path, monkeypatch: pytest.MonkeyPatch):
    folder = export(run).folder
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code[1], {})
    assert said.getvalue().strip()


@pytest.mark.parametrize(
    ("kind", "parser"), [("qwen3", "qwen3"), ("qwen2", "deepseek_r1"), ("llama", "deepseek_r1"), ("gemma3", None)]
)
def test_vllm_is_told_a_parser_only_where_the_model_type_decides_it(tmp_path: Path, kind: str, parser: str | None):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    told = f" --reasoning-parser {parser}" if parser else ""
    assert serve_command("my model", tmp_path) == f"vllm serve 'my model'{told}"


@pytest.mark.slow
def test_the_card_tells_the_data_apart_and_owns_up_to_evaluation_problems_seen_in_training(run: Path):
    assert "share text" not in card_of(run)
    data = read_json(run / "data.json")
    data["train"] |= {"hub": "openai/gsm8k", "revision": "abc123"}
    data["overlap"] |= {"count": 3}
    write_json(run / "data.json", data)
    card = card_of(run, out=run / "again")
    assert yaml.safe_load(card.split("---\n", 2)[1])["datasets"] == ["openai/gsm8k"]
    assert "from openai/gsm8k at commit abc123; 2 problems a step" in card
    assert "3 of the 8 evaluation problems share text" in card


# -- mistakes


def test_what_is_no_training_run_is_refused(tmp_path: Path):
    assert "no recipe.toml" in refusal(tmp_path / "nowhere")


@pytest.mark.slow
def test_a_run_without_a_checkpoint_is_refused(run: Path):
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint yet" in refusal(run)


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(run: Path):
    assert refusal(run, step=7).endswith("it has: 1, 2")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_out_that_is_taken_is_refused_and_left_alone(run: Path, kind: str):
    taken = run / "export"
    if kind == "folder":
        taken.mkdir()
    (taken if kind == "file" else taken / "kept").write_text("mine", encoding="utf-8")
    assert "exists already" in refusal(run)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused(run: Path):
    weights = Run(run).checkpoint(2) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged" in refusal(run)
    weights.unlink()
    assert "model.safetensors is missing" in refusal(run)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(run: Path):
    with files_of_at_most(20_000):
        assert "cannot write" in refusal(run)


# -- the command line


@pytest.mark.slow
def test_the_command_line_says_where_the_model_is_and_how_to_serve_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["suffice", "export", str(run), "--out", str(run / "x"), "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert json.loads(capsys.readouterr().out) == {
        "export": str(run / "x"),
        "step": 2,
        "serve": f"vllm serve {run / 'x'} --reasoning-parser qwen3",
    }

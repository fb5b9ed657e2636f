"""The report: what it says, what it leaves out, and that model text stays text in a real browser."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser import measured
from suffice.errors import RunError
from suffice.interval import Interval
from suffice.report import findings, plots, save_diagnosis_picture, write_report
from suffice.report.examples import cut_examples, sample_examples
from suffice.report.source import read_contents
from suffice.run.directory import Run
from suffice.run.records import Change, Comparison, CutThought, Sample

SCRIPT = '<script>document.title="owned"</script>'
IMAGE = '"><img src=x onerror=\'document.title="owned"\'>'
HOSTILE = f"{SCRIPT}{IMAGE}</pre></style>{{{{ 7 * 7 }}}}{'x' * 300}"

PROTOCOL = {
    "problems": 240, "samples": 4, "temperature": 1.0, "top_p": 1.0,
    "max_thought_tokens": 256, "max_answer_tokens": 16, "seed": 0, "cache_gb": 4.0,
}  # fmt: skip


def interval(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def dump_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def derivation(rng: random.Random, steps: int, rechecks: int) -> tuple[str, str, str, str]:
    """Prompt, gold, the thought until it knows, and its rechecks."""
    value = rng.randrange(10)
    prompt, thought = [f"a = {value}"], []
    before = value
    for name, previous in zip("bcdefgh"[:steps], "abcdefg", strict=False):
        number = rng.randrange(1, 9)
        before, value = value, (value + number) % 10
        prompt.append(f"{name} = {previous} + {number}")
        thought.append(f"{name} = {before} + {number} = {value} ;")
    known = " ".join([*thought, f"so {before} {value} ."])
    again = " ".join(f"check : {' '.join(thought)} so {before} {value} ." for _ in range(rechecks))
    return f"{' , '.join(prompt)} ?", f"{before} {value}", known, again


def write_evaluation(folder: Path, accuracy: float, tokens: float, rechecks: int, hostile: bool = False) -> None:
    levels = {
        str(level): {
            "problems": 40,
            "accuracy": interval(min(0.99, accuracy + 0.12 * (3.5 - level) / 2), 0.05),
            "thought_tokens": interval(tokens * (0.4 + 0.17 * level), 2.0),
        }
        for level in range(1, 7)
    }
    metrics = {
        "accuracy": interval(accuracy, 0.02), "thought_tokens": interval(tokens, 1.8),
        "answer_tokens": interval(3.1, 0.05), "tokens": interval(tokens + 3.1, 1.8),
        "thought_tokens_correct": interval(tokens - 6, 1.7),
        "truncated": interval(0.021, 0.006), "unclosed": interval(0.018, 0.006), "unparsed": interval(0.004, 0.003),
    }  # fmt: skip
    summary = {
        "model": "lab/arithmetic", "task": "arithmetic",
        "protocol": PROTOCOL | ({"samples": 1, "temperature": 0.0} if folder.name.endswith("-greedy") else {}),
        "token_counts": "tokenizer", "metrics": metrics, "levels": levels, "seconds": 12.3,
    }  # fmt: skip
    dump(folder / "summary.json", summary)
    records = []
    outcomes = random.Random(f"{folder.name}")
    for i in range(60):
        prompt, gold, known, again = derivation(random.Random(i), 1 + i % 6, rechecks)
        right = outcomes.random() < accuracy
        thought = f"{known} {again}".strip()
        if hostile:
            prompt, thought = prompt + HOSTILE, thought + HOSTILE
        records.append({
            "problem": f"arithmetic-test-{i}" + (HOSTILE if hostile else ""), "difficulty": str(1 + i % 6), "sample": 0,
            "verdict": "CORRECT" if right else "WRONG", "thought_tokens": len(thought.split()), "answer_tokens": 3,
            "closed": True, "truncated": False, "prompt": prompt, "gold": gold, "thought": thought,
            "answer": (gold if right else "0 0") + (HOSTILE if hostile else ""),
        })  # fmt: skip
    dump_lines(folder / "records.jsonl", records)


def write_diagnosis(folder: Path, early: float, rechecks: int, hostile: bool = False) -> None:
    curve = [
        {
            "fraction": f / 10,
            "accuracy": interval(0.04 + 0.86 / (1 + math.exp(-12 * (f / 10 - early))), 0.035),
            "thought_tokens": 84 * f / 10,
            "lost": interval(0.02, 0.01),
            "mended": interval(0.9 * (1 - f / 10), 0.05),
        }
        for f in range(11)
    ]
    summary = {
        "model": "lab/arithmetic", "task": "arithmetic", "protocol": PROTOCOL,
        "token_counts": "tokenizer", "lost": interval(0.02, 0.01), "safe_fraction": 0.7,
        "curve": curve, "full": {"accuracy": interval(0.9, 0.02), "thought_tokens": interval(84, 2)},
        "sufficient_fraction": interval(early + 0.1, 0.02), "saveable_fraction": interval(0.9 - early, 0.02),
        "saveable_tokens": interval(84 * (0.9 - early), 2.5),
        "conclusion": "The model knows the answer well before it stops: there is much to save.", "worth_training": True,
    }  # fmt: skip
    dump(folder / "summary.json", summary)
    records = []
    for i in range(12):
        prompt, gold, known, again = derivation(random.Random(i), 2 + i % 5, rechecks)
        records.append({
            "problem": f"arithmetic-test-{i}", "difficulty": str(2 + i % 5), "sample": 0, "thought_tokens": 60,
            "full_verdict": "CORRECT", "exits": [{"fraction": 0.4, "exit": 24, "verdict": "CORRECT"}],
            "sufficient": 0.4, "saveable_tokens": 36, "prompt": prompt, "gold": gold,
            "thought": f"{known} {again}".strip() + (HOSTILE if hostile else ""), "sufficient_text": known,
            "answer": gold,
        })  # fmt: skip
    dump_lines(folder / "records.jsonl", records)


def write_training(run: Path, steps: int = 100) -> None:
    rng = random.Random(1)
    rows = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-step / 30)
        tokens = 84 - 46 * done + rng.gauss(0, 4)
        rows.append({
            "step": step, "reward": 0.31 + 0.2 * done + rng.gauss(0, 0.04),
            "accuracy": 0.6 + 0.2 * done + rng.gauss(0, 0.05), "thought_tokens": tokens, "answer_tokens": 3.0,
            "unclosed": max(0.0, 0.03 * (1 - done) + rng.gauss(0, 0.01)), "truncated": 0.0, "loss": 0.01,
            "grad_norm": 0.4, "learning_rate": 3e-4, "entropy": 0.5, "mismatch": 0.0, "clip_fraction": 0.0,
            "dropped": 1, "tokens_prefill": 900, "tokens_decode": int(16 * tokens), "tokens_train": 4000,
            "seconds_rollout": 0.2, "seconds_update": 0.1, "seconds": 0.31,
        })  # fmt: skip
    dump_lines(run / "metrics.jsonl", rows)
    (run / "recipe.toml").write_text(
        '[model]\npath = "lab/arithmetic"\n\n[task]\nname = "arithmetic"\n\n'
        '[method]\nname = "s-grpo"\n\n[run]\nseed = 7\n'
    )
    dump(
        run / "manifest.json",
        {
            "suffice": "0.1.0", "torch": "2.13.0", "transformers": "5.10.0", "python": "3.11.7", "git": "abc123",
            "command": ["suffice", "train", "lab-s-grpo", "--set", "run.seed=7"],
            "created": "2026-01-02T03:04:05+00:00",
        },
    )  # fmt: skip


def write_comparison(run: Path) -> None:
    others = {
        "answer_tokens": {"difference": 0.0, "low": -0.1, "high": 0.1},
        "tokens": {"difference": -43.8, "low": -46.0, "high": -41.6},
        "tokens_change": {"mean": -0.5, "low": -0.53, "high": -0.47},
    }
    changes = {
        "accuracy": {"difference": 0.012, "low": -0.011, "high": 0.034},
        "thought_tokens": {"difference": -43.8, "low": -46.0, "high": -41.6},
        "thought_tokens_change": {"mean": -0.52, "low": -0.545, "high": -0.495},
    }
    greedy = {
        "accuracy": {"difference": -0.004, "low": -0.02, "high": 0.012},
        "thought_tokens": {"difference": -50.0, "low": -52.0, "high": -48.0},
        "thought_tokens_change": {"mean": -0.6, "low": -0.62, "high": -0.58},
    }
    dump(run / "comparison.json", {**changes, **others, "greedy": {**greedy, **others}})


def write_run(run: Path, hostile: bool = False) -> Path:
    """A full run of 100 steps: evaluations sampled and greedy, diagnosis before and after, training."""
    run.mkdir(parents=True, exist_ok=True)
    write_training(run)
    write_comparison(run)
    for label, accuracy, tokens, rechecks in (
        ("before", 0.611, 84.2, 2), ("after", 0.623, 40.4, 0), ("before-greedy", 0.905, 83.3, 2),
        ("after-greedy", 0.901, 33.3, 0), ("step-000050", 0.655, 48.0, 1),
    ):  # fmt: skip
        write_evaluation(run / "evaluations" / label, accuracy, tokens, rechecks, hostile)
    write_diagnosis(run / "diagnosis" / "before", 0.45, 2, hostile)
    write_diagnosis(run / "diagnosis" / "after", 0.8, 1, hostile)
    return run


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a full run whose prompts, thoughts, answers and names all attack it."""
    run = write_run(tmp_path_factory.mktemp("runs") / "hostile", hostile=True)
    recipe = (run / "recipe.toml").read_text().replace("lab/arithmetic", "x" * 300) + f"# {HOSTILE}\n"
    (run / "recipe.toml").write_text(recipe)
    summary = json.loads((run / "evaluations/before/summary.json").read_text())
    summary["task"] = summary["model"] = HOSTILE
    for label in (f"$x^2$ {HOSTILE}", "--><img onerror=a()>", '"></text><script>'):
        summary["levels"][label] = {**summary["levels"]["6"], "thought_tokens": interval(900.0, 1.0)}
    dump(run / "evaluations/before/summary.json", summary)
    after = json.loads((run / "evaluations/after/summary.json").read_text())
    after["levels"]['"></text><script>'] = after["levels"]["6"]  # moves most, so the title names it
    dump(run / "evaluations/after/summary.json", after)
    diagnosis = json.loads((run / "diagnosis/after/summary.json").read_text())
    dump(run / "diagnosis/after/summary.json", {**diagnosis, "conclusion": HOSTILE})
    return write_report(run)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_run(tmp_path_factory.mktemp("runs") / "full")).read_text()


def section(page: str, title: str) -> str:
    return page.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


@pytest.mark.slow
def test_the_headline_says_what_the_intervals_support(page: str) -> None:
    assert "<h1>Thinking tokens fell by 52\u202f%, accuracy held</h1>" in page


@pytest.mark.slow
def test_the_table_shows_sampled_and_greedy_with_intervals_and_paired_changes(page: str) -> None:
    table = section(page, "Before and after")
    assert table.index("Sampled") < table.index("Greedy")
    for text in (
        "61.1\u202f%",
        "59.1 to 63.1",
        "62.3\u202f%",
        "+1.2",
        "−1.1 to +3.4",
        "−43.8",
        "−46.0 to −41.6",
        "−60\u202f%",
    ):
        assert text in table
    assert "95 % intervals, clustered by question" in table


@pytest.mark.slow
def test_only_changes_whose_interval_excludes_zero_stand_out(page: str) -> None:
    table = section(page, "Before and after")
    assert '<b class="clear">−52\u202f%</b>' in table
    assert "<b>+1.2</b>" in table


@pytest.mark.slow
def test_every_part_of_a_full_run_is_there(page: str) -> None:
    parts = ["Before and after", "Training", "When the model knows", "By difficulty"]
    for title in [*parts, "Thoughts, and where they sufficed", "Samples", "Protocol and provenance"]:
        assert section(page, title), title
    assert "s-grpo on arithmetic" in page
    assert "suffice train lab-s-grpo --set run.seed=7" in page
    assert "abc123" in section(page, "Protocol and provenance")


@pytest.mark.slow
def test_the_page_loads_nothing_and_holds_no_script(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!["'#])""", page)
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_figures_are_wellformed_and_share_no_id(page: str) -> None:
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 9  # movement, five curves, diagnosis, two by difficulty
    for figure in figures:
        root = ElementTree.fromstring(figure)
        own = {element.get("id") for element in root.iter()}
        used = re.findall(r'(?:href="|url\()#([^")]+)', figure)
        assert own.issuperset(used)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert write_report(run).read_text() == write_report(run).read_text()


@pytest.mark.slow
def test_model_text_is_escaped_wherever_it_appears(hostile_page: Path) -> None:
    page = hostile_page.read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 20
    assert "{{ 7 * 7 }}" in page  # not evaluated as a template either


@pytest.mark.slow
def test_a_dollar_sign_in_a_difficulty_stays_a_dollar_sign(hostile_page: Path) -> None:
    assert "$x^2$" in section(hostile_page.read_text(), "By difficulty")


@pytest.mark.slow
def test_the_text_after_the_sufficient_exit_is_faded_behind_a_mark(page: str) -> None:
    shown = section(page, "Thoughts, and where they sufficed")
    assert re.search(r'so \d \d \. <span class="knew">⟵ knew it here</span><span class="rest"> check : ', shown)
    assert "40\u202f% of the thought sufficed" in shown


def test_a_run_with_only_an_evaluation_shows_only_that(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluations/before", 0.611, 84.2, 1)
    page = write_report(tmp_path).read_text()
    assert "<h1>61.1\u202f% correct with 84.2 thinking tokens</h1>" in page
    assert section(page, "Evaluation")
    for absent in (
        "Training",
        "When the model knows",
        "Before and after",
        "change</th>",
        "recipe.toml",
        'for="mended"',
    ):
        assert f"<h2>{absent}</h2>" not in page
        assert absent not in page.partition("</style>")[2]


def test_what_eval_and_diagnose_write_makes_a_report_too(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluations/model", 0.611, 84.2, 1)
    write_diagnosis(tmp_path / "diagnosis/model", 0.45, 1)
    page = write_report(tmp_path).read_text()
    assert "<h1>61.1\u202f% correct with 84.2 thinking tokens</h1>" in page
    for title in (
        "Evaluation",
        "When the model knows",
        "By difficulty",
        "Thoughts, and where they sufficed",
        "Samples",
    ):
        assert section(page, title), title
    assert "Sampled" in section(page, "Evaluation")
    assert "Greedy" not in section(page, "Evaluation")


def test_several_benchmarks_are_told_by_their_mean(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluations/aime24", 0.2, 90.0, 1)
    write_evaluation(tmp_path / "evaluations/gsm8k", 0.9, 30.0, 1)
    page = write_report(tmp_path).read_text()
    assert "<h1>55.0\u202f% correct on average over 2 benchmarks with 60.0 thinking tokens</h1>" in page


def test_a_run_with_only_a_diagnosis_shows_only_that(tmp_path: Path) -> None:
    write_diagnosis(tmp_path / "diagnosis/before", 0.45, 1)
    page = write_report(tmp_path).read_text()
    assert "<h1>The model knows the answer well before it stops: there is much to save.</h1>" in page
    assert "45\u202f% of the thought could be saved" in section(page, "When the model knows")
    for absent in ("Training", "Evaluation", "By difficulty", "Samples"):
        assert not section(page, absent)


def test_a_run_that_was_killed_while_training_shows_its_curves(tmp_path: Path) -> None:
    write_training(tmp_path, steps=5)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "rew')
    page = write_report(tmp_path).read_text()
    assert "<h1>5 steps of training</h1>" in page
    assert section(page, "Training").count("<svg") == 4


def test_what_a_servers_cache_spared_is_shown_where_one_says(tmp_path: Path) -> None:
    write_training(tmp_path, steps=5)
    assert "found in the server" not in write_report(tmp_path).read_text()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    dump_lines(tmp_path / "metrics.jsonl", [line | {"tokens_cached": 2700} for line in lines])
    page = write_report(tmp_path).read_text()  # 2,700 of 3,600 tokens of prefixes
    assert re.search(r"75%.{0,40}of prefixes found in the server", page, re.DOTALL)


def test_one_step_makes_no_curve(tmp_path: Path) -> None:
    write_training(tmp_path, steps=1)
    assert not section(write_report(tmp_path).read_text(), "Training")


def test_before_and_after_without_a_comparison_claim_no_change(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluations/before", 0.611, 84.2, 1)
    write_evaluation(tmp_path / "evaluations/after", 0.623, 40.4, 0)
    page = write_report(tmp_path).read_text()
    was, now = "61.1\u202f% correct with 84.2 thinking tokens", "62.3\u202f% correct with 40.4 thinking tokens"
    assert f"<h1>{was} before, {now} after</h1>" in page
    assert ">change<" not in page


def test_a_metric_that_counted_nothing_is_a_dash_and_no_row_if_it_never_counts(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations/before"
    write_evaluation(folder, 0.0, 84.2, 1)
    write_evaluation(tmp_path / "evaluations/after", 0.6, 40.4, 0)
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"]["thought_tokens_correct"] = {"mean": None, "low": None, "high": None}
    summary["levels"]["1"]["accuracy"] = {"mean": float("nan"), "low": float("nan"), "high": float("nan")}
    dump(folder / "summary.json", summary)
    page = write_report(tmp_path).read_text()
    assert re.search(r"where correct</th>\s*<td><b>n/a</b></td>\s*<td><b>34.4</b>", page)
    assert not re.search(r"\bnan\b", page.partition("</style>")[2], flags=re.IGNORECASE)
    shutil.rmtree(tmp_path / "evaluations/after")
    assert "where correct" not in write_report(tmp_path).read_text()


def test_an_unfinished_folder_is_left_out(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluations/before", 0.6, 80, 1)
    (tmp_path / "evaluations/after").mkdir()
    write_evaluation(tmp_path / "evaluations/.after.x1", 0.9, 10, 1)
    assert list(read_contents(tmp_path).evaluations) == ["before"]


def test_a_resumed_run_counts_a_repeated_step_once(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "reward": 0.1},
        {"step": 2, "reward": 0.2},
        {"step": 2, "reward": 0.5},
        {"step": 3, "reward": 0.4},
    ]
    dump_lines(tmp_path / "metrics.jsonl", rows)
    assert [step.reward for step in Run(tmp_path).metrics()] == [0.1, 0.5, 0.4]


def test_text_that_utf8_cannot_encode_still_makes_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations/before"
    write_evaluation(folder, 0.6, 80, 1)
    text = (folder / "records.jsonl").read_text().replace("so ", "so \\ud800 ")
    (folder / "records.jsonl").write_text(text)
    assert "so ? " in write_report(tmp_path).read_text(encoding="utf-8")


def emptied(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "is not a directory"),
        (emptied, "has nothing to report"),
        (lambda run: (run / "evaluations/before/summary.json").write_text('{"model": "x"'), "is not valid JSON"),
        (lambda run: (run / "evaluations/before/summary.json").write_text('{"model": "x"}'), "summary.json lacks task"),
        (
            lambda run: (run / "evaluations/before/records.jsonl").write_text('{"problem": 3}\n'),
            "records.jsonl:1 has a bad problem",
        ),
        (lambda run: (run / "comparison.json").write_text("[]"), "comparison.json is not what it should be"),
        (lambda run: (run / "metrics.jsonl").write_text('{"reward": 1}\n'), "metrics.jsonl:1 lacks step"),
        (lambda run: (run / "manifest.json").write_text('{"git": 3}'), "manifest.json lacks suffice"),
        (lambda run: (run / "recipe.toml").write_text("= 3"), "is not valid TOML"),
    ],
)
def test_a_broken_run_gives_one_line_and_leaves_the_old_page(tmp_path: Path, spoil: Any, message: str) -> None:
    run = tmp_path / "run"
    write_evaluation(run / "evaluations/before", 0.6, 80, 1)
    before = write_report(run).read_text()
    spoil(run)
    with pytest.raises(RunError, match=message) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    if (run / "report.html").exists():
        assert (run / "report.html").read_text() == before


def comparison(accuracy: tuple[float, float, float], change: tuple[float, float, float]) -> Comparison:
    found = dict.fromkeys(Change.model_fields, Interval(*change)) | {"accuracy": Interval(*accuracy)}
    return Comparison(**found, greedy=Change(**found))


@pytest.mark.parametrize(
    ("accuracy", "change", "said"),
    [
        ((0.01, -0.01, 0.03), (-0.48, -0.52, -0.44), "Thinking tokens fell by 48\u202f%, accuracy held"),
        ((-0.04, -0.06, -0.02), (-0.5, -0.6, -0.4), "Thinking tokens fell by 50\u202f%, accuracy fell by 4.0 points"),
        ((0.04, 0.02, 0.06), (0.2, 0.1, 0.3), "Thinking tokens rose by 20\u202f%, accuracy rose by 4.0 points"),
        (
            (0.01, -0.08, 0.1), (-0.02, -0.06, 0.02),
            "Thinking tokens did not measurably change, what happened to accuracy is unclear",
        ),
    ],
)  # fmt: skip
def test_a_claim_needs_an_interval_that_carries_it(accuracy: Any, change: Any, said: str, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "evaluations/before", 0.6, 80, 1)
    contents = replace(read_contents(tmp_path), comparison=comparison(accuracy, change))
    assert findings.headline(contents) == said


def test_a_difficulty_moved_only_where_its_intervals_lie_apart() -> None:
    def level(before: tuple[float, float], after: tuple[float, float]) -> dict[str, Interval]:
        pairs = {"before": before, "after": after}
        return {label: Interval(mean, mean - half, mean + half) for label, (mean, half) in pairs.items()}

    apart, touching = level((100, 5), (50, 5)), level((0.5, 0.1), (0.6, 0.1))
    title = findings.difficulty_title
    assert title("Tokens", {"1": apart}, "relative") == "Tokens fell at every difficulty, most at 1 (−50\u202f%)"
    assert title("Accuracy", {"1": touching}, "points") == "Accuracy changed clearly at no difficulty"
    both = {"1": touching, "2": level((0.2, 0.01), (0.3, 0.01))}
    assert title("Accuracy", both, "points") == "Accuracy rose at 1 of 2 difficulties, most at 2 (+10.0 points)"
    assert title("Accuracy", {"1": {"before": touching["before"]}}, "points") == "Accuracy by difficulty"


def sample(problem: str, verdict: str, number: int = 0) -> Sample:
    return Sample.model_validate({
        "problem": problem, "difficulty": None, "sample": number, "verdict": verdict, "thought_tokens": 5,
        "answer_tokens": 1, "closed": True, "truncated": False, "prompt": "p", "gold": "g", "thought": "t",
        "answer": "a",
    })  # fmt: skip


def test_examples_are_balanced_over_mended_lost_and_same() -> None:
    before = [sample(f"p{i}", "WRONG" if i < 3 else "CORRECT") for i in range(100)]
    after = [sample(f"p{i}", "UNPARSED" if 3 <= i < 50 else "CORRECT") for i in range(100)]
    examples, totals = sample_examples({"before": before, "after": after}, 12)
    assert totals == {"mended": 3, "lost": 47, "same": 50}
    kinds = [example.kind for example in examples]
    assert [kinds.count(kind) for kind in ("mended", "lost", "same")] == [3, 5, 4]


def test_a_problem_appears_once_however_many_samples_it_has() -> None:
    records = [sample("p", verdict, i) for i, verdict in enumerate(["CORRECT", "WRONG", "CORRECT", "TIMEOUT"])]
    examples, totals = sample_examples({"before": records, "after": records}, 12)
    assert [example.problem for example in examples] == ["p"]
    assert totals == {"same": 4}


def test_only_pairs_that_both_labels_have_are_compared() -> None:
    records = {"before": [sample("p", "WRONG"), sample("q", "WRONG")], "after": [sample("q", "CORRECT")]}
    assert [example.problem for example in sample_examples(records, 12)[0]] == ["q"]


def cut(thought: str, sufficient_text: str | None) -> CutThought:
    return CutThought.model_validate({
        "problem": "p", "difficulty": "1", "sample": 0, "thought_tokens": 5, "full_verdict": "CORRECT",
        "sufficient": None if sufficient_text is None else 0.5, "exits": [], "saveable_tokens": 0,
        "prompt": "p", "gold": "g", "thought": thought,
        "sufficient_text": sufficient_text, "answer": "a",
    })  # fmt: skip


def test_a_cut_through_half_a_character_still_splits_the_thought() -> None:
    [example] = cut_examples({"before": [cut("5 € and more", "5 \ufffd")]}, 4)
    assert (example.responses[0].known, example.responses[0].rest) == ("5 ", "€ and more")


def test_a_thought_that_never_sufficed_is_no_example_of_one_that_did() -> None:
    assert cut_examples({"before": [cut("all of it", None)]}, 4) == []


@given(st.text(max_size=30), st.text(max_size=30))
def test_splitting_a_thought_loses_nothing(thought: str, text: str) -> None:
    for example in cut_examples({"before": [cut(thought, text)]}, 1):
        assert example.responses[0].known + example.responses[0].rest == thought


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=60))
def test_smoothing_keeps_the_length_and_stays_within_the_values(values: list[float]) -> None:
    finite = [value for value in values if not math.isnan(value)]
    smoothed = plots.smooth(values)
    assert len(smoothed) == len(values)
    for value in smoothed:
        assert math.isnan(value) or min(finite) - 1e-6 <= value <= max(finite) + 1e-6


def test_smoothing_is_a_centred_mean() -> None:
    assert plots.smooth([0.0, 3.0, math.nan, 9.0]) == [1.5, 1.5, 6.0, 9.0]


def test_the_diagnosis_picture_is_a_png_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_diagnosis(tmp_path / "diagnosis/before", 0.4, 1)
    picture = save_diagnosis_picture(Run(tmp_path).diagnoses(), tmp_path / "d.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"diagnosis", "d.png"}


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    write_diagnosis(tmp_path / "diagnosis/before", 0.4, 1)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write"):
        save_diagnosis_picture(Run(tmp_path).diagnoses(), tmp_path / "file" / "d.png")


MEASURE = """<!doctype html><title>measuring</title><pre id="out"></pre>
<iframe id="report" src="{report}" style="border:0;width:390px;height:2000px"></iframe>
<iframe id="control" src="{control}"></iframe>
<script>
onload = () => {{
  const page = document.getElementById("report").contentDocument;
  const seen = () => [...page.querySelectorAll(".trace")].filter(t => t.offsetParent).map(t => t.classList[1]);
  const result = {{
    title: page.title,
    control: document.getElementById("control").contentDocument.title,
    width: page.documentElement.scrollWidth,
    planted: page.querySelectorAll("script, img, [onerror]").length,
    figures: [...page.querySelectorAll("svg")].map(s => s.getBoundingClientRect().width),
    accent: getComputedStyle(page.querySelector(".eyebrow")).color,
    all: seen(),
  }};
  page.getElementById("mended").click();
  result.mended = seen();
  document.getElementById("out").textContent = JSON.stringify(result);
}};
</script>"""


@pytest.fixture(scope="module")
def in_browser(hostile_page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a headless browser makes of the hostile report in a frame 390 pixels wide, beside an unprotected control."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "control.html").write_text(f"<title>untouched</title>{SCRIPT}")
    harness = MEASURE.format(report=hostile_page.as_uri(), control=(folder / "control.html").as_uri())
    found: dict[str, Any] = measured(harness, folder)
    return found


@pytest.mark.slow
def test_hostile_text_runs_nothing_in_a_browser(in_browser: dict[str, Any]) -> None:
    assert in_browser["control"] == "owned"  # the same script, unprotected, does run here
    assert in_browser["title"] == "hostile · suffice"
    assert in_browser["planted"] == 0


@pytest.mark.slow
def test_a_phone_shows_the_page_without_sideways_scrolling(in_browser: dict[str, Any]) -> None:
    assert in_browser["width"] <= 390
    assert len(in_browser["figures"]) == 9
    assert all(200 < width <= 390 for width in in_browser["figures"])


@pytest.mark.slow
def test_choosing_a_kind_of_trace_hides_the_others(in_browser: dict[str, Any]) -> None:
    assert {"mended", "lost", "same"} <= set(in_browser["all"])
    assert in_browser["mended"].count("mended") == in_browser["all"].count("mended")
    assert "lost" not in in_browser["mended"]

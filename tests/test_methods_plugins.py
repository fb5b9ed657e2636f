"""Methods of other packages: the example of docs/add-a-method.md installed and used, and packages that are broken."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scoring import R, W, batch, near
from suffice import get_method, list_methods
from suffice.cli import app, main
from suffice.config import load_recipe
from suffice.engines.local.build import build_engine
from suffice.errors import PluginError
from suffice.grading import Grader
from suffice.methods import OURS, registry

PAGE = Path(__file__).parent.parent / "docs" / "add-a-method.md"
GOOD = """
from suffice.methods import Method
class M(Method):
    name, paper, formula = "mine", "none", "r = 0"
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one module and its entry points on the path, as an installer would."""

    def put(package: str, source: str, **entries: str) -> None:
        site = tmp_path / package
        info = site / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{package}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[suffice.methods]", *lines, ""]))
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, package, raising=False)
        registry.cache_clear()

    yield put
    monkeypatch.undo()
    registry.cache_clear()


def test_the_example_of_the_page_is_listed_scored_and_trained(install: Install) -> None:
    page = PAGE.read_text()
    source, project = (re.search(rf"```{kind}\n(.*?)```", page, re.S)[1] for kind in ("python", "toml"))
    install("brevity", source, **tomllib.loads(project)["project"]["entry-points"]["suffice.methods"])

    assert list_methods() == [*(method.name for method in OURS), "brevity"]
    assert "brevity" in CliRunner().invoke(app, ["methods", "--json"]).stdout
    # mean length 200: 1.5 for the one below it
    near(get_method("brevity", bonus=0.5).score(batch([[R, R, W]], [[100, 400, 100]])).reward[0], [1.5, 1, 0])

    small = ["group.spines=4", "train.problems_per_step=2", "rollout.max_thought_tokens=32"]
    recipe = load_recipe("lab-grpo", ["method.name=brevity", "method.bonus=0.5", *small])
    assert recipe.method.parameters == {"scale_rewards": "std", "drop": "none", "bonus": 0.5}
    with Grader() as grader:
        metrics, groups = build_engine(recipe, grader, None)[0].step(1)
    assert len(groups) == 2
    assert metrics["grad_norm"] >= 0


def test_a_package_is_imported_once_and_only_when_methods_are_asked_for(install: Install, tmp_path: Path) -> None:
    count = tmp_path / "imported"
    install("counting", f"open({str(count)!r}, 'a').write('.')\n{GOOD}", mine="counting:M")
    assert not count.exists()
    for _ in range(3):
        get_method("mine"), list_methods(), get_method("grpo")
    assert count.read_text() == "."


@pytest.mark.parametrize(
    ("source", "entry", "complaint"),
    [
        ("import nowhere_to_be_found", "bad:M", r"cannot be loaded \(ModuleNotFoundError: No module named 'nowhere"),
        ("1 / 0", "bad:M", r"cannot be loaded \(ZeroDivisionError: division by zero\)"),
        ("def (", "bad:M", r"cannot be loaded \(SyntaxError"),
        ("", "bad:M", r"cannot be loaded \(AttributeError"),
        ("M = 3", "bad:M", "is 3 and not a subclass of suffice.methods.Method"),
        ("class M: name = 'mine'", "bad:M", "is <class .bad.M.> and not a subclass of suffice.methods.Method"),
        (GOOD.replace('"mine"', '"yours"'), "bad:M", "calls itself 'yours'; give class and entry point one name"),
        (GOOD.replace(", formula", "").replace(', "r = 0"', ""), "bad:M", "does not say its formula; set formula"),
    ],
)
def test_a_broken_package_is_named_and_the_way_out_said(
    install: Install, source: str, entry: str, complaint: str
) -> None:
    install("bad", source, mine=entry)
    with pytest.raises(PluginError, match=rf"^method 'mine' of bad 1\.0 \(bad:M\) {complaint}"):
        get_method("grpo")


def test_a_name_of_ours_cannot_be_taken(install: Install) -> None:
    install("thief", GOOD.replace('"mine"', '"s-grpo"'), s_grpo="thief:M")
    with pytest.raises(PluginError, match=r"^method 's-grpo' of thief 1\.0 .* is a second method of that name"):
        list_methods()


def test_two_packages_cannot_share_a_name(install: Install) -> None:
    install("first", GOOD, mine="first:M")
    install("second", GOOD, mine="second:M")
    with pytest.raises(PluginError, match=r"^method 'mine' of (first|second) 1\.0 .* is a second method of that name"):
        list_methods()


def test_the_command_line_says_it_in_one_line_and_exits_with_two(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("bad", "1 / 0", mine="bad:M")
    monkeypatch.setattr("sys.argv", ["suffice", "train", "lab-grpo", "--dry-run"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error: method 'mine' of bad 1.0 (bad:M) cannot be loaded")

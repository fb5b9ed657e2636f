"""`suffice train --engine verl`: check, prepare the run, let verl run in a process of its own, evaluate both ends."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from packaging.version import Version

from suffice.config import GuardSection, Recipe
from suffice.engines.local.build import build_engine, load_eval_problems
from suffice.engines.local.engine import Engine
from suffice.engines.local.keeper import tell
from suffice.engines.local.loop import compare_ends, evaluate_now, forget_after
from suffice.engines.trackers import Trackers
from suffice.engines.verl.data import STOP, write_problems
from suffice.engines.verl.main import FAILED, compose
from suffice.engines.verl.translate import Settings, check, memory_share, translate
from suffice.errors import Interrupted, ModelError, RecipeError, RunError
from suffice.extras import install_command
from suffice.grading import Grader
from suffice.groups import Problem
from suffice.guard.rules import Guard
from suffice.model.checkpoint import step_folder
from suffice.model.load import chat_of, load_model
from suffice.model.positions import longest_prompt
from suffice.model.resolve import resolve_path, whole
from suffice.model.shape import shape_of
from suffice.rollout import Chat
from suffice.run.files import locked, read_jsonl, start_run, write_json, write_text
from suffice.run.progress import progress
from suffice.run.signals import stop_requests
from suffice.tasks.provenance import check_unchanged, locate_data, shared, training_problems

if TYPE_CHECKING:
    from omegaconf import DictConfig

NEEDED = {"verl": ("0.9.1", "0.10"), "TransferQueue": ("0.1.10", "0.2")}
CPU_WORKERS = 2
PLUGIN = "suffice.engines.verl.plugin"  # named, besides its entry point: verl is silent where that fails to load
PATIENCE = 30.0  # seconds that verl has to end in good order


def check_installed() -> None:
    """
    Raises:
        RecipeError: verl is not there, or not a version that this engine is written for.
    """
    for package, (least, below) in NEEDED.items():
        try:
            found = Version(version(package))
        except PackageNotFoundError:
            raise RecipeError(
                f"--engine verl needs {package}, which is not installed: {install_command('verl')}"
            ) from None
        if not Version(least) <= found < Version(below):
            raise RecipeError(
                f"--engine verl needs {package} >= {least} and < {below}, not {found}: "
                f"pip install '{package}>={least},<{below}'"
            )


def check_ray(nodes: int) -> None:
    """
    Raises:
        RecipeError: several nodes without a cluster, or `RAY_ADDRESS` names one that does not answer, for which Ray
            would wait for minutes.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if nodes > 1 and address in ("", "local"):
        raise RecipeError(
            f"cluster.nodes = {nodes} needs a Ray cluster: ray start --head on one machine, "
            "ray start --address=HEAD:6379 on the others, then set RAY_ADDRESS=HEAD:6379"
        )
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not address or address == "local" or not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError as error:
        raise RecipeError(
            f"RAY_ADDRESS is {address}, where no Ray cluster answers ({error.strerror or error}); "
            "unset RAY_ADDRESS to start Ray here, or start that cluster: ray start --head"
        ) from None


def on_cpu() -> bool:
    """Whether verl runs on this machine's processors: it has no GPU, and no Ray cluster is named that may have some."""
    return not torch.cuda.is_available() and os.environ.get("RAY_ADDRESS", "") in ("", "local")


def configuration(
    recipe: Recipe, run: Path, chat: Chat, problems: Sequence[Problem], overrides: Sequence[str]
) -> DictConfig:
    """verl's full configuration of a recipe on this machine, the user's own settings last, checked.

    Raises:
        RecipeError: it would not do what the recipe says, or nobody says how many GPUs there are.
    """
    cpu = on_cpu()
    devices = CPU_WORKERS if cpu else recipe.cluster.gpus or torch.cuda.device_count()
    if not devices:
        raise RecipeError("this machine has no GPU to count: set cluster.gpus to those of each node")
    settings = translate(
        recipe,
        run,
        model=whole(recipe.model.path),
        prompt_tokens=longest_prompt(chat, problems),
        inducer_tokens=len(chat.inducer),
        devices=devices,
        cpu=cpu,
    )
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        with suppress(ModelError):  # a hub model whose size is not known here is served in verl's half of the GPU
            parameters = shape_of(resolve_path(recipe.model.path)).parameters
            share = memory_share(parameters, recipe.rollout.cache_gb, total)
            settings["actor_rollout_ref.rollout.gpu_memory_utilization"] = share
    if not os.environ.get("RAY_ADDRESS"):
        settings["ray_kwargs.ray_init.address"] = "local"  # never a cluster that some other program left
    config = compose(settings, own_settings(overrides))
    check(config, recipe)
    return config


def own_settings(overrides: Sequence[str]) -> Settings:
    """`verl.key=value` as verl's own setting `key`; values read as TOML, a bare word is a string.

    Raises:
        RecipeError: no value.
    """
    found: Settings = {}
    for override in overrides:
        name, equals, raw = override.removeprefix("verl.").partition("=")
        if not equals or not name:
            raise RecipeError(
                f"--set {override!r} is not of the form verl.key=value, such as verl.trainer.n_gpus_per_node=8"
            )
        try:
            found[name] = tomllib.loads(f"value = {raw}")["value"]
        except (ValueError, RecursionError):
            found[name] = raw
    return found


def dry_run(recipe: Recipe, run: Path, overrides: Sequence[str]) -> str:
    """verl's full configuration of a recipe as YAML. Tokenizer and problems are loaded, the model is not."""
    check_installed()
    from omegaconf import OmegaConf

    chat, problems = (
        chat_of(recipe.model, recipe.rollout.inducer),
        training_problems(recipe),
    )
    return str(OmegaConf.to_yaml(configuration(recipe, run, chat, problems, overrides)))


def as_rows(recipe: Recipe) -> Recipe:
    """The recipe without what concerns the local engine alone: verl trains rows, and its guard does not probe."""
    objective = recipe.objective.model_copy(update={"layout": "rows"})
    return recipe.model_copy(update={"objective": objective, "guard": GuardSection(action="off")})


def train(recipe: Recipe, run: Path, overrides: Sequence[str], *, resume: bool = False) -> Path:
    """Train a recipe on verl in a run directory; returns the last checkpoint. As the local engine's `train`.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the step was finished and saved.
        RunError: verl failed; the last checkpoint is whole and the run can be resumed.
    """
    check_installed()
    check_ray(recipe.cluster.nodes)
    data = locate_data(recipe)
    if resume:
        check_unchanged(run, data)
    with Trackers(recipe) as trackers, Grader() as grader, stop_requests() as stopped:
        engine, _ = build_engine(as_rows(recipe), grader, None, stopped)
        held_out = load_eval_problems(recipe, engine.model, engine.chat) if recipe.train.eval_every else []
        if not resume:
            prepare(recipe, run, engine, overrides, data, held_out)
        with locked(run) as lock:
            start = done_before(run)
            if resume:
                forget_after(run, start, recipe.train.steps)
            trackers.open(run, start)
            if held_out and start == 0:
                trackers.log(0, evaluate_now(engine, held_out, run, "before"))
            release(engine)
            steps = follow(run, recipe, start, trackers, stopped, lock)
            last = step_folder(run, steps)
            if held_out:
                engine.model = load_model(str(last), device=recipe.model.device, dtype="float32")
                trackers.log(steps, evaluate_now(engine, held_out, run, "after"))
                write_json(run / "comparison.json", compare_ends(run))
    return last


def prepare(
    recipe: Recipe, run: Path, engine: Engine, overrides: Sequence[str], data: dict[str, Any], held_out: list[Problem]
) -> None:
    """Make the run: recipe, manifest, data, verl's configuration and data set."""
    from omegaconf import OmegaConf

    config = configuration(recipe, run, engine.chat, engine.problems.problems, overrides)
    if not (run / "recipe.toml").exists():
        start_run(run, recipe.dump())
    write_text(run / "verl.yaml", OmegaConf.to_yaml(config))
    write_json(run / "data.json", data | shared(engine.problems.problems, held_out))
    drawn = engine.problems.draw(recipe.train.steps * recipe.train.problems_per_step)
    write_problems(run / "problems.parquet", drawn, "suffice")
    write_problems(run / "validation.parquet", held_out or drawn[: recipe.train.problems_per_step], "suffice-plain")


def release(engine: Engine) -> None:
    """Let go of the model that checked and evaluated: verl needs the memory."""
    engine.model = engine.sampler.model = engine.update.model = None
    engine.optimizer.param_groups.clear()
    gc.collect()
    torch.cuda.empty_cache()


def done_before(run: Path) -> int:
    """Steps that verl's last whole checkpoint holds."""
    marker = run / "verl" / "latest_checkpointed_iteration.txt"
    return int(marker.read_text()) if marker.exists() else 0


def follow(run: Path, recipe: Recipe, start: int, trackers: Trackers, stopped: Callable[[], bool], lock: int) -> int:
    """Start verl and tell of its steps until it ends; the last of them. It holds the run's lock too, should it outlive
    this process. The guard looks at the metrics of every step, and may ask verl to stop."""
    steps, seen, asked = recipe.train.steps, start, False
    guard = Guard(recipe.guard)
    for metrics in read_jsonl(run / "metrics.jsonl") if start else []:
        guard.observe(metrics["step"], metrics)
    if guard.stopped:
        return start
    stop, log = run / STOP, run / "verl.log"
    stop.unlink(missing_ok=True)
    cpu = on_cpu()
    if cpu:
        print("no GPU here: verl runs on its CPU backend, which is slow", file=sys.stderr)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "RAY_DEDUP_LOGS": "1", "VERL_USE_EXTERNAL_MODULES": PLUGIN}
    environment |= {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} if cpu else {}
    command = [sys.executable, "-m", "suffice.engines.verl.main", str(run)]
    with log.open("a") as output, progress(f"train {recipe.method.name}", steps, done=start) as advance:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True, pass_fds=[lock]
        )
        try:
            while True:
                ended = child.poll() is not None
                lines = read_jsonl(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
                for metrics in (line for line in lines if line["step"] > seen):
                    seen = metrics["step"]
                    trackers.log(seen, {name: value for name, value in metrics.items() if name != "step"})
                    tell(run, seen, guard.observe(seen, metrics), {})
                    advance(1, f"accuracy {metrics['accuracy']:.2f}, thinking tokens {metrics['thought_tokens']:.0f}")
                if ended:
                    break
                if (stopped() or guard.stopped) and not asked:
                    asked = True
                    stop.touch()
                time.sleep(0.5)
        finally:
            end(child)
            stop.unlink(missing_ok=True)
    if child.returncode:
        raise RunError(
            f"verl failed after step {seen}: {last_words(log)}; see {log}, "
            f"then continue with: suffice train --resume {run}"
        )
    if seen < steps and not guard.stopped:
        raise Interrupted(f"stopped after step {seen}; continue with: suffice train --resume {run}")
    return seen


def end(child: subprocess.Popen[bytes]) -> None:
    """End verl and, with it, the Ray it started."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def last_words(log: Path) -> str:
    """Why verl failed, by the last line of its log."""
    for line in reversed(log.read_text(errors="replace").splitlines()[-200:]):
        if line.startswith(FAILED):
            return line.removeprefix(FAILED).rstrip(".")
    return "its process was killed"

"""The process that runs verl: `python -m suffice.engines.verl.main RUN`. What it says goes to `verl.log` of the run."""

from __future__ import annotations

import sys
import warnings
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from suffice.errors import RecipeError
from suffice.run.layout import VERL_CONFIGURATION

FAILED = "suffice: verl failed: "
"""How the last line of a failed run's log begins; what follows is the reason in one line."""

LONGEST = 300  # characters of a reason


class Missing:
    """What a setting that does not exist is."""


@cache
def defaults() -> Any:
    """verl's own configuration."""
    from hydra import compose, initialize_config_module

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # verl lists the engines that are not installed
        with initialize_config_module("verl.trainer.config", version_base=None):
            return compose("ppo_trainer")


def compose(settings: dict[str, Any], own: dict[str, Any]) -> Any:
    """verl's configuration with our settings laid over it, then the user's own.

    Raises:
        RecipeError: a setting of the user's own that verl does not have; `+` before its name adds one.
    """
    from omegaconf import OmegaConf, open_dict

    config = deepcopy(defaults())
    with open_dict(config):
        for name, value in settings.items():
            OmegaConf.update(config, name, value, force_add=True)
        for name, value in own.items():
            if not name.startswith("+") and OmegaConf.select(config, name, default=Missing) is Missing:
                raise RecipeError(f"verl has no setting {name}; mend its name, or add it with --set verl.+{name}=…")
            OmegaConf.update(config, name.removeprefix("+"), value, force_add=True)
    return config


def run(directory: Path) -> None:
    """Train by `verl.yaml` of a run."""
    from omegaconf import OmegaConf
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = OmegaConf.load(directory / VERL_CONFIGURATION)
    validate_config(config, need_reference_policy(config), need_critic(config))
    run_ppo(config, TaskRunnerV1)


def reason(error: BaseException) -> str:
    """The cause of a failure in one line: Ray wraps it in the tracebacks of all processes it came through."""
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip()
    if "worker process has died" in text:
        return "one of its processes died (killed, or out of memory)"
    last = text.splitlines()[-1].strip() if text else ""
    return f"{type(cause).__name__}: {last}"[:LONGEST]


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]))
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(FAILED + reason(error), flush=True)
        sys.exit(1)

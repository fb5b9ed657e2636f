"""How little thought `ballots` needs: a reader who opens ballots in random order and stops when sure enough.

    python -m benchmarks.stopping [--json] [--record]

The reader knows the shares that problems are drawn with, not the problem's own, and stops when the posterior of the
leading class reaches a threshold. Nobody who opens ballots in random order does better at the same mean number of them
by much; a model that reads votes off the prompt without opening them may.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import typer

from benchmarks.record import Json, Record, publish
from suffice.lab.ballots import BALLOTS, NAMES, problems
from suffice.model.tokenizer import load_tokenizer

PROBLEMS = 4000
THRESHOLDS = (0.6, 0.8, 0.9, 0.95, 0.99)


def main(as_json: Json = False, record: Record = False) -> None:
    publish("stopping", cases(), as_json=as_json, record=record)


def cases() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    asked = problems("final", PROBLEMS)
    gold_P = np.array([int(problem.gold[1:]) for problem in asked])
    vote_P_T = np.array([votes(problem.prompt) for problem in asked])
    vote_P_T = rng.permuted(vote_P_T, axis=1)
    sure_P_T, leader_P_T = posteriors(vote_P_T)
    tokenizer = load_tokenizer("lab/ballots", None)
    bare, one = (len(tokenizer.encode(text)) for text in ("\n\n", "\na 3 = v3 #1 ;\n"))
    for threshold in THRESHOLDS:
        enough_P_T = sure_P_T >= threshold
        enough_P_T[:, -1] = True
        opened_P = enough_P_T.argmax(1)
        right_P = leader_P_T[np.arange(PROBLEMS), opened_P] == gold_P
        opened = float(opened_P.mean()) + 1
        yield {
            "case": f"sure to {100 * threshold:.0f} %",
            "ballots": opened,
            "thinking tokens": bare + (one - bare) * opened,
            "accuracy": float(right_P.mean()),
        }


def votes(prompt: str) -> list[int]:
    """The vote of every ballot of a prompt."""
    shown = prompt.split(" , ")[: len(NAMES)]
    return [(index + int(ballot.split()[1])) % BALLOTS.classes for index, ballot in enumerate(shown)]


def posteriors(vote_P_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probability, class) of the likeliest winner after each ballot [P, T], every share as likely as another."""
    count_P_T_C = np.eye(BALLOTS.classes)[vote_P_T].cumsum(1)
    opened_T_1 = np.arange(1, vote_P_T.shape[1] + 1)[:, None]
    likelihood_P_T_C = sum(
        share**count_P_T_C * ((1 - share) / (BALLOTS.classes - 1)) ** (opened_T_1 - count_P_T_C)
        for share in BALLOTS.shares
    )
    posterior_P_T_C = likelihood_P_T_C / likelihood_P_T_C.sum(-1, keepdims=True)
    return posterior_P_T_C.max(-1), posterior_P_T_C.argmax(-1)


if __name__ == "__main__":
    typer.run(main)

"""What should make one doubt an evaluation's figures: samples that may have been read wrongly, or cut elsewhere.

All is seen in the samples themselves, so that a run that was resumed says the same as one that was not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from suffice.evaluation.source import SWITCH, Sampling, Trace

MARKED = re.compile(r"\s*[<\[◁]\W*[\w:]*(think|thought|reason|reflect|scratch|analy[sz])", re.IGNORECASE)
"""The start of an answer that a mark of some family seems to open."""
ALOUD = re.compile(r"\s*(okay|ok|alright|hmm|analysis(?=[A-Z])|<\|)", re.IGNORECASE)
"""The start of an answer that reads like a thought, or like one whose marks were taken away."""
MANY = 0.1  # share of the answers that must read so
SLACK_TOKENS = 16  # marks of turn and thought, which no count holds
SLACK = 0.9  # of a budget: a text is tokenized otherwise than it was sampled


def doubts(traces: Sequence[Trace], sampling: Sampling, *, served: bool) -> list[str]:
    """One line each, what was seen and what to do; none is the rule."""
    budget = sampling.max_thought_tokens + sampling.max_answer_tokens
    found = [_empty(traces), _left(traces, served), _thoughtless(traces, served)]
    if served:
        found += [_short(traces, budget), _beyond(traces, budget), _unknown(traces)]
    return [doubt for doubt in found if doubt]


def _empty(traces: Sequence[Trace]) -> str | None:
    empty = [t for t in traces if not (t.thought_tokens or t.thought or t.answer or t.truncated)]
    if not empty:
        return None
    return f"{len(empty)} of {len(traces)} samples ended by themselves without a word, which counts as a wrong answer"


def _left(traces: Sequence[Trace], served: bool) -> str | None:
    left = [trace for trace in traces if trace.thought and not trace.closed and not trace.truncated]
    if not left:
        return None
    doubt = f"{len(left)} of {len(traces)} samples ended by themselves inside the thought: no answer, counted as wrong"
    if served:
        doubt += (
            "; if they did answer, the server's reasoning parser took the answer for thought: serve without "
            "--reasoning-parser, or with that of the model's family"
        )
    return doubt


def _thoughtless(traces: Sequence[Trace], served: bool) -> str | None:
    answers = [trace.answer for trace in traces if not trace.truncated]
    if any(trace.thought_tokens for trace in traces if not trace.truncated):
        return None
    marked = [found[0].strip() for found in map(MARKED.match, answers) if found]
    aloud = sum(bool(ALOUD.match(answer) or SWITCH.search(answer)) for answer in answers)
    if max(len(marked), aloud) <= MANY * len(answers):
        return None
    seen = f"begin with a mark such as {marked[0]}" if marked else "read like thinking aloud"
    doubt = (
        f"no thought was found in any of {len(traces)} samples, though {len(marked) or aloud} answers {seen}: thoughts "
        "are counted as answers"
    )
    if served:
        doubt += "; serve the model with the --reasoning-parser of its family, or so that special tokens are shown"
    return doubt


def _short(traces: Sequence[Trace], budget: int) -> str | None:
    lengths = [trace.thought_tokens + trace.answer_tokens for trace in traces if trace.truncated]
    short = [length for length in lengths if length + SLACK_TOKENS < SLACK * budget]
    if not short:
        return None
    return (
        f"{len(short)} of {len(traces)} samples were cut after at most {max(short):,} tokens, though {budget:,} were "
        "asked for: the server has a lower limit; give it a longer context, or ask for lower budgets"
    )


def _beyond(traces: Sequence[Trace], budget: int) -> str | None:
    lengths = [trace.thought_tokens + trace.answer_tokens for trace in traces]
    beyond = [length for length in lengths if SLACK * length > budget + SLACK_TOKENS]
    if not beyond:
        return None
    return (
        f"{len(beyond)} of {len(traces)} samples have up to {max(beyond):,} tokens, though {budget:,} were asked for: "
        "the server does not keep to the limit, or --tokenizer is not the model's"
    )


def _unknown(traces: Sequence[Trace]) -> str | None:
    if any(trace.thought_tokens and not trace.truncated for trace in traces):
        return None
    cut = [trace for trace in traces if trace.truncated and trace.thought_tokens and not trace.closed]
    if not cut or len(cut) == len(traces):
        return None
    return (
        f"{len(cut)} of {len(traces)} samples were cut and are counted as thoughts, though none that ended has a "
        "thought: give --tokenizer, or larger budgets"
    )

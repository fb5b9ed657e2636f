"""Diagnose thoughts that your own program recorded, without a model.

    python examples/diagnose_traces.py

Force an answer at a few positions of every thought, write a line per thought, and read off how much came after the
answer was settled. `suffice diagnose --from traces.jsonl` does the same on the command line and recommends a budget.
"""

import json
import tempfile
from pathlib import Path

from suffice.evaluation.recorded import diagnose_recorded
from suffice.grading import Grader

TRACES = [  # the gold answer is 7 each time; exits are pairs [thinking tokens, the answer forced there]
    {"id": "a", "gold": "7", "thought_tokens": 1000, "exits": [[200, "3"], [400, "7"], [800, "7"]], "answer": "7"},
    {"id": "b", "gold": "7", "thought_tokens": 2000, "exits": [[400, "7"], [800, "5"], [1600, "7"]], "answer": "7"},
    {"id": "c", "gold": "7", "thought_tokens": 3000, "exits": [[600, "1"], [1200, "2"], [2400, "9"]], "answer": "9"},
]

if __name__ == "__main__":  # the grader starts processes
    with tempfile.TemporaryDirectory() as folder, Grader() as grader:
        path = Path(folder) / "traces.jsonl"
        path.write_text("".join(json.dumps(trace) + "\n" for trace in TRACES))
        summary = diagnose_recorded(path, {}, grader).summary
    print(f"right in the end: {summary.full.accuracy.mean:.0%}")
    print(f"settled early, of the tokens of right thoughts: {summary.saveable_right.mean:.0%}")
    print(f"settled early, of all tokens: {summary.saveable_fraction.mean:.0%}")
    print(f"right by luck on the way: {summary.luck.mean:.0%}")

"""The process that may be killed: one job a line in, one verdict a line out, all long arithmetic in between.

Started by `suffice.grading.pool` as `python -m suffice.grading.worker PARENT_PID`. A job is `{"gold": …, "answer": …}`
(JSON, ASCII, two expressions), its result `true` or `false`; the first line out says `"ready"`, or names an error.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

MEMORY = 2 << 30
"""Bytes of address space a worker may use."""

_PR_SET_PDEATHSIG = 1


def _confine(parent: int) -> None:
    """Bound the memory, write no core file, and (Linux) die with the parent even in the middle of a job."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def main() -> None:
    # A dependency that prints must not break the protocol: it gets stderr, we keep the pipe.
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)

    def tell(message: object) -> None:
        print(json.dumps(message), file=out, flush=True)

    # Ctrl-C and a scheduler's SIGTERM reach the whole job: the parent finishes its step and needs us for that
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _confine(int(sys.argv[1]))
    try:
        from suffice.grading.algebra import equal
    except Exception as error:
        tell(f"{type(error).__name__}: {error}")
        return
    tell("ready")
    for line in sys.stdin:
        job = json.loads(line)
        tell(equal(job["gold"], job["answer"]))


if __name__ == "__main__":
    main()

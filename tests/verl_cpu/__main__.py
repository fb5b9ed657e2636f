"""`PYTHONPATH=tests python -m verl_cpu NAME …` is `suffice train NAME --engine verl …` on this machine's processors."""

import os
import sys

from verl_cpu import ENVIRONMENT, options

asked = sys.argv[1:]
more = [] if "--resume" in asked else ["--engine", "verl", *options()]
os.execve(sys.executable, [sys.executable, "-m", "suffice", "train", *asked, *more], os.environ | ENVIRONMENT)

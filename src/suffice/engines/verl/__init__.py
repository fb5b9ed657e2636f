"""The same recipe on verl: Ray, FSDP2 and a rollout server, for one node to many.

verl's own `main_ppo` runs; this package adds agent loops that sample groups, advantage estimators that call our
methods, and a trainer that hands them whole groups. Nothing here imports verl before it is asked to train.
"""

from suffice.engines.verl.launch import dry_run, train

__all__ = ["dry_run", "train"]

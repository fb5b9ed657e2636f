"""The run directory: what is written there, by whom it is held, and how a run is asked to stop."""

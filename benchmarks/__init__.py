"""What suffice's exact shortcuts save, measured: each module is a command, `python -m benchmarks.<module>`."""

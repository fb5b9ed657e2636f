"""The model: loading and refusing, template and marks, attention, adapters, size, checkpoints."""

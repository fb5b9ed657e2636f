"""The guard: sees that training harms a model, or is about to."""

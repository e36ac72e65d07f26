"""Which lengths cost what, and which are worth it: numbers and callables, nothing of models or tasks."""

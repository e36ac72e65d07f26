"""How a student learns from a teacher: objectives, layer mapping, the training loop, what a run leaves."""

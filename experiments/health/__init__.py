"""What a machine needs before a rollout, and what must hold of the first real one after it."""

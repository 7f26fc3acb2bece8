"""Progress of a rollout in Weights & Biases while it runs: told to a process of its own, which nothing waits for."""

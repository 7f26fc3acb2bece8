"""Clocks: of a rollout, and of the evaluation stage beside the vbench package."""

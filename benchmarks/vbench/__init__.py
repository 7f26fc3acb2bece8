"""Ours and the vbench package at work on the same videos and the same random weights."""

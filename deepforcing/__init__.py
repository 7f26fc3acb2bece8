"""Autoregressive video diffusion with pluggable KV-cache policies."""

__version__ = "0.1.0"

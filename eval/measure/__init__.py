"""How anything is measured: batches of frames, the one protocol of metrics, and what several of them look at together."""

"""An experiment of the paper, whole: its rows rolled out, scored, and printed beside the published numbers.

A row is a rollout: words for `experiments.rollout`, composed and checked by it, and made by it into an ordinary run
directory, so whatever was made once, by this or another experiment, is not made again.
"""

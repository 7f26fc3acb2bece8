"""Statistics of scores: intervals over prompts, tests, and what several comparisons in one table do to them."""

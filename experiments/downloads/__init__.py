"""Files that others published: what is needed, what is here, fetched only when asked and checked against what is known."""

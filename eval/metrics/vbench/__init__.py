"""VBench's dimensions, as the vbench package measures them, and what its scripts make of them."""

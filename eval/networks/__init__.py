"""The networks behind the VBench dimensions, each loaded once per process, file and device."""

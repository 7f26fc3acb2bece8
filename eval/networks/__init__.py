"""The networks behind the metrics: read without running code from a file, loaded once per process, file and device."""

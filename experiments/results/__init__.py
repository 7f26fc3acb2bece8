"""What is on disk of runs, read: which runs, their records, scores, configs and speed."""

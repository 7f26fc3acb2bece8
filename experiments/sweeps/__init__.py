"""A sweep: many settings made, scored and compared. points.py lists them, plan.py says what is left, work.py makes one of them,
report.py tells the end from what is on disk, wherever and by whomever the points were made."""

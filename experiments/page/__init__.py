"""The report page: runs, their videos and numbers as one self-contained HTML file."""

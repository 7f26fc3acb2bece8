"""Draw a figure of runs as .png, .svg or .pdf. `python -m experiments.figure --help`"""

from __future__ import annotations

from experiments.command import command
from experiments.figures.make import make

main = command("figure")(make)

if __name__ == "__main__":
    main()

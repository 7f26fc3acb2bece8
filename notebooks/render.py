"""Run the notebooks and write them beside their scripts as .ipynb, with outputs and pictures, for reading on a forge.

`make notebooks` installs what this needs (notebooks/requirements.txt) and calls it; names of notebooks may follow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient

from deepforcing.runs import atomic_write_text

HERE = Path(__file__).parent


def notebooks() -> list[Path]:
    """The scripts that say that they are notebooks."""
    return [path for path in sorted(HERE.glob("*.py")) if path.read_text().startswith("# ---\n# jupyter:")]


def render(script: Path) -> Path:
    """Raises nbclient's CellExecutionError if a cell fails; then the earlier rendering stays."""
    notebook = jupytext.read(script)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    client = NotebookClient(
        notebook, record_timing=False, timeout=None, resources={"metadata": {"path": str(HERE.parent)}}
    )
    client.execute()
    notebook.metadata.pop("language_info", None)
    for number, cell in enumerate(
        notebook.cells
    ):  # no times and no random ids: a change of a file is a change of results
        cell.id = f"cell-{number}"
    out = script.with_suffix(".ipynb")
    atomic_write_text(out, jupytext.writes(notebook, fmt="ipynb"))
    return out


if __name__ == "__main__":
    names = sys.argv[1:]
    for path in notebooks():
        if not names or path.stem in names:
            made = render(path)
            print(f"{made}: {made.stat().st_size // 1000} kB")

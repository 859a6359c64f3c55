"""Refresh the stored outputs of the notebooks: each is run alone on a twin of its own."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from labkit.run.parameters import notebooks_dir

# Matplotlib and IPython put object ids into texts; they would differ in every run.
_ID = re.compile(r" at 0x[0-9a-f]+")


def refresh(path: Path) -> None:
    """Execute one notebook and save it with its outputs, without what differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABKIT_OUTPUT"] = str(Path(folder) / f"run-{path.stem[3:]}")
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
        ).execute()
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            for kind, text in output.get("data", {}).items():
                if isinstance(text, str) and kind.startswith("text/"):
                    output["data"][kind] = _ID.sub("", text)
    nbformat.write(notebook, path)


def main() -> None:
    """Refresh the notebooks named on the command line, or all."""
    named = [Path(word) for word in sys.argv[1:]]
    for path in named or sorted(notebooks_dir().glob("[0-9][0-9]-*.ipynb")):
        print(path.name, flush=True)
        refresh(path)


if __name__ == "__main__":
    main()

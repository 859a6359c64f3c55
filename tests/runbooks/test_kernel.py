"""Kernels of headless runs: each behind sockets of its own."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from labkit.runbooks.kernel import SocketKernelManager


def client(text: str) -> NotebookClient:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    return NotebookClient(notebook, kernel_name="python3", kernel_manager_class=SocketKernelManager)


def test_two_kernels_from_one_folder_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    temporary = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.chdir(here)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    one, two = client("x = 'one'"), client("x = 'two'")
    with one.setup_kernel(), two.setup_kernel():
        folders = list(temporary.glob("labkit-kernel-*"))
        assert len(folders) == 2
        assert not any(folder.stat().st_mode & 0o077 for folder in folders)
        assert one.km.ip != two.km.ip
        for each in (one, two):
            each.execute_cell(each.nb.cells[0], 0)
    assert not list(here.iterdir())
    del one, two, each
    gc.collect()
    temporary.rmdir()


def test_a_long_folder_for_temporary_files_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / ("long" * 25)
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    one = client("x = 'one'")
    with one.setup_kernel():
        one.execute_cell(one.nb.cells[0], 0)
    assert not list(temporary.iterdir())

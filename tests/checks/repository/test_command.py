"""The command: exit statuses, formats, suppressions, and a light start."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

SYNC = """apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {url: "ssh://git@example.net/lab.git"}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec: {path: ./cluster, sourceRef: {kind: GitRepository, name: flux-system}}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  password: hunter2hunter\n"
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - image: busybox\n"
ENTRY = """suppress:
  - id: secret-plaintext
    file: cluster/*
    reason: a test of suppressions
    expires: 2999-01-01
"""


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "labkit", "check", "repo", *map(str, words)],
                          capture_output=True, text=True, check=False)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/gotk-sync.yaml").write_text(SYNC)
    return tmp_path


def test_a_clean_repository(root: Path) -> None:
    done = run(root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 errors, 0 warnings, 0 infos")


def test_an_error_fails_and_is_shown_without_the_secret(root: Path) -> None:
    (root / "cluster/secret.yaml").write_text(SECRET)
    done = run(root)
    assert done.returncode == 1
    assert "cluster/secret.yaml:5: error [secret-plaintext]" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert run(root, "--fail-on", "never").returncode == 0


def test_a_threshold(root: Path) -> None:
    (root / "cluster/pod.yaml").write_text(POD)
    assert [run(root, "--fail-on", level).returncode for level in ("error", "info")] == [0, 1]


def test_formats_and_a_file(root: Path, tmp_path: Path) -> None:
    (root / "cluster/secret.yaml").write_text(SECRET)
    out = tmp_path / "out.sarif"
    done = run(root, "--format", "sarif", "--output", out)
    assert (done.returncode, done.stdout) == (1, "")
    result = json.loads(out.read_text())["runs"][0]["results"][0]
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == 5
    assert json.loads(run(root, "--format", "json").stdout)["findings"][0]["id"] == "secret-plaintext"
    assert ET.fromstring(run(root, "--format", "junit").stdout).get("failures") == "1"


def test_a_suppression(root: Path) -> None:
    (root / "cluster/secret.yaml").write_text(SECRET)
    (root / ".labkit.yaml").write_text(ENTRY)
    done = run(root)
    assert done.returncode == 0
    assert "1 suppressed" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--flux", "one"), "a version of Flux 2"),
        (("--age-key", "AGE-SECRET-KEY-1QQQQ"), "a reference that begins with"),
        (("--age-key", "file:/nowhere"), "no such file"),
        (("--output", "/nowhere/x"), "a file that can be written"),
    ],
)
def test_bad_input(root: Path, words: tuple[str, ...], said: str) -> None:
    done = run(root, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "AGE-SECRET" not in done.stderr


def test_bad_files(root: Path) -> None:
    (root / ".labkit.yaml").write_text("suppress: [{id: nothing}]\n")
    done = run(root)
    assert done.returncode == 2
    assert ".labkit.yaml:1:1" in done.stderr
    assert run(root / "none").returncode == 2


def test_the_rules_are_listed() -> None:
    done = run("--rules")
    assert done.returncode == 0
    assert "longhorn-setting-ignored" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, labkit.cli; print(sorted(m for m in ('yaml', 'pydantic', 'labkit.checks') if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

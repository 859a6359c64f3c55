"""Read the files of a repository: manifests with their lines, templates and other texts for what they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from labkit.errors import InputError, LabError, Mistake
from labkit.facts.manifests import Trouble, dig, line_at, maps, parse_manifests, texts
from labkit.facts.repository import CreationRule, SourceFile, is_encrypted
from labkit.process import run_program

SOPS_CONFIG = ".sops.yaml"
_YAML = (".yaml", ".yml")
_SEALED = (".json", ".env", ".ini")
_LARGEST = 8 * 1024 * 1024
_SKIPPED = {".git", "node_modules", ".venv", "__pycache__", ".terraform"}
_MARKS = re.compile(r"\{\{|\{%|%\{|<%|\[\[ ?\.")
_AGE = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_GIT_SECONDS = 60.0


def list_files(root: Path) -> tuple[str, ...]:
    """Return the paths of a repository's files, sorted: what Git knows or would add, else all that lie there.

    Raises:
        InputError: when the folder does not exist or cannot be read.
    """
    if not root.is_dir():
        raise InputError([Mistake(str(root), 0, 0, "", "the folder of a repository", "no folder")])
    if (root / ".git").exists():
        try:
            argv: list[str | Path] = ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            said = run_program(argv, timeout=_GIT_SECONDS, error=_GitError).stdout
        except _GitError:
            return tuple(sorted(_walk(root)))
        names = {os.fsdecode(name) for name in said.split(b"\0") if name}
        return tuple(sorted(name for name in names if (root / name).is_file()))
    return tuple(sorted(_walk(root)))


class _GitError(LabError):
    pass


def _walk(root: Path) -> Iterable[str]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in _SKIPPED]
        prefix = Path(folder).relative_to(root).as_posix()
        for name in names:
            if (Path(folder) / name).is_file():
                yield name if prefix == "." else f"{prefix}/{name}"


def read_files(root: Path, paths: Iterable[str]) -> tuple[SourceFile, ...]:
    """Parse the YAML files among paths, and note encrypted files of other kinds; others are left out."""
    known = tuple(paths)
    charts = {path.rpartition("/")[0] for path in known if path.rpartition("/")[2] == "Chart.yaml"}
    found = (_read(root, path, charts) for path in known if path.endswith((*_YAML, *_SEALED)))
    return tuple(file for file in found if file is not None)


def _read(root: Path, path: str, charts: set[str]) -> SourceFile | None:
    try:
        data = _bytes(root / path)
    except OSError as exc:
        return SourceFile(path, trouble=Trouble(0, f"cannot be read: {exc.strerror or type(exc).__name__}"))
    if path.endswith(_SEALED):
        return _sealed(path, data)
    if data is None:
        return SourceFile(path, trouble=Trouble(0, f"larger than {_LARGEST} bytes, not read"))
    text = decode(data)
    if text is None:
        before = data[: _bad_byte(data)].count(b"\n") + 1
        return SourceFile(path, trouble=Trouble(before, "not UTF-8 text"))
    return _manifests(path, text, in_chart=any(_is_below(path, chart) for chart in charts))


def _manifests(path: str, text: str, *, in_chart: bool) -> SourceFile:
    parsed = parse_manifests(text)
    trees = tuple((tree.line, tree) for tree in parsed.trees if isinstance(tree, dict) and hasattr(tree, "line"))
    template = in_chart or (parsed.trouble is not None and _MARKS.search(text) is not None)
    sealed = next((tree for _, tree in trees if is_encrypted(tree)), None)
    return SourceFile(
        path,
        trees,
        parsed.trouble,
        parsed.repeated,
        is_template=template,
        recipients=_recipients(sealed),
        recipients_line=0 if sealed is None else line_at(sealed, ("sops", "age")),
    )


def _recipients(tree: object) -> tuple[str, ...]:
    groups = [dig(tree, "sops"), *maps(dig(tree, "sops", "key_groups"))]
    entries = [entry for group in groups for entry in maps(dig(group, "age"))]
    return tuple(dict.fromkeys(text for entry in entries for text in texts(entry.get("recipient"))))


def _sealed(path: str, data: bytes | None) -> SourceFile | None:
    """An encrypted file that is no YAML: only its recipients matter."""
    if data is None or b"sops" not in data or b"ENC[AES256_GCM" not in data:
        return None
    text = data.decode("utf-8", "replace")
    found = dict.fromkeys(_AGE.findall(text))
    first = _AGE.search(text)
    line = text.count("\n", 0, first.start()) + 1 if first else 1
    return SourceFile(path, kind=path.rpartition(".")[2], recipients=tuple(found), recipients_line=line)


def _bytes(path: Path) -> bytes | None:
    return None if path.stat().st_size > _LARGEST else path.read_bytes()


def decode(data: bytes) -> str | None:
    """Decode a text as YAML does, by its byte order mark, else as UTF-8; None when it is neither."""
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _bad_byte(data: bytes) -> int:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        return exc.start
    return len(data)


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder + "/")


def read_creation_rules(root: Path) -> tuple[CreationRule, ...] | None:
    """Return the creation rules of .sops.yaml at the root, or None when there is none that can be read."""
    try:
        text = decode((root / SOPS_CONFIG).read_bytes())
    except OSError:
        return None
    tree = next(iter(parse_manifests(text or "").trees), None)
    if not isinstance(dig(tree, "creation_rules"), list):
        return None
    return tuple(_rule(rule) for rule in maps(dig(tree, "creation_rules")))


def _rule(rule: dict[str, object]) -> CreationRule:
    groups = [rule, *maps(rule.get("key_groups"))]
    recipients = [part for group in groups for text in texts(group.get("age")) for part in re.split(r"[,\s]+", text)]
    others = any(
        group.get(kind) for group in groups for kind in ("pgp", "kms", "gcp_kms", "azure_keyvault", "hc_vault")
    )
    return CreationRule(
        line=line_at(rule, (), 1),
        path_regex=str(rule.get("path_regex") or ""),
        recipients=frozenset(part for part in recipients if part),
        encrypted_regex=str(rule.get("encrypted_regex") or ""),
        others=others,
    )

"""The real git over SSH: what is fetched, what is pushed, and what is said when it does not work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from labkit.errors import InputError, SystemDown
from labkit.lab import Lab
from labkit.systems.git import (
    GitDown,
    PushRefused,
    changed_files,
    check_out,
    checked_out,
    commit_all,
    fetch,
    head_of,
    holds,
    push,
    show,
)
from labkit.systems.githost import PINNED, git_host, known_hosts
from tests.gitops.hosts import Host, new_key


def write(tree: Path, path: str, text: str) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text, encoding="utf-8")


def test_a_commit_is_fetched_changed_and_pushed(lab: Lab, host: Host) -> None:
    access = host.access()
    mirror = fetch(lab, access)
    assert mirror.head == host.bare.head()
    with checked_out(mirror) as tree:
        assert (tree / ".sops.yaml").is_file()
        assert commit_all(lab, tree, "Nothing") == ""
        write(tree, "notes.txt", "hello\n")
        commit = commit_all(lab, tree, "Add notes")
        assert push(lab, access, tree, "master") == commit
    assert host.bare.head() == commit
    assert fetch(lab, access).head == commit
    assert show(mirror, commit, "notes.txt") == "hello\n"
    assert holds(lab, access, mirror.head)(f"master@sha1:{commit}")
    assert not holds(lab, access, commit)(f"master@sha1:{mirror.head}")


def test_a_branch_that_has_moved_is_rebased_on_and_never_forced(lab: Lab, host: Host) -> None:
    access = host.access()
    with checked_out(fetch(lab, access)) as tree:
        write(tree, "ours.txt", "ours\n")
        commit_all(lab, tree, "Ours")
        theirs = host.bare.commit({"theirs.txt": b"theirs\n"}, "Theirs")
        ours = push(lab, access, tree, "master")
    files = host.bare.files()
    assert files["ours.txt"] == b"ours\n"
    assert files["theirs.txt"] == b"theirs\n"
    assert holds(lab, access, theirs)(f"master@sha1:{ours}")


def test_changes_that_clash_are_told_with_the_file_and_nothing_is_pushed(lab: Lab, host: Host) -> None:
    access = host.access()
    with checked_out(fetch(lab, access)) as tree:
        write(tree, "README.md", "ours\n")
        commit_all(lab, tree, "Ours")
        theirs = host.bare.commit({"README.md": b"theirs\n"}, "Theirs")
        with pytest.raises(PushRefused, match=r"clashes in README.md"):
            push(lab, access, tree, "master")
    assert host.bare.head() == theirs


def test_a_new_branch_is_pushed_for_review(lab: Lab, host: Host) -> None:
    access = host.access()
    with checked_out(fetch(lab, access)) as tree:
        write(tree, "a/b.txt", "x\n")
        commit = commit_all(lab, tree, "Propose")
        push(lab, access, tree, "labkit/add-x")
    mirror = fetch(lab, access)
    assert mirror.heads["labkit/add-x"] == commit
    assert changed_files(mirror, commit) == ("a/b.txt",)


def test_the_first_commit_of_an_empty_repository(lab: Lab, host: Host) -> None:
    access = host.access()
    other = lab.model_copy(update={"git": lab.git.model_copy(update={"branch": "fresh"})})
    mirror = fetch(other, access)
    assert mirror.head == ""
    tree = check_out(mirror, host.folder / "work")
    write(tree, "a.txt", "x\n")
    commit = commit_all(other, tree, "First")
    assert push(other, access, tree, "fresh") == commit == head_of(tree)
    assert fetch(other, access).head == commit


def test_a_key_that_the_server_does_not_know(lab: Lab, host: Host) -> None:
    with pytest.raises(GitDown, match=r"expected to be let in") as caught:
        fetch(lab, host.access(**{lab.git.deploy_key: new_key()}))
    assert caught.value.problem == "denied"
    assert "deploy keys" in caught.value.next_step


def test_a_server_with_another_host_key_is_refused(lab: Lab, host: Host) -> None:
    access = host.access()
    other = asyncssh.import_private_key(new_key()).export_public_key().decode()
    (access.state / PINNED).write_text(f"github.com {other}", encoding="utf-8")
    with pytest.raises(GitDown, match=r"expected host key ssh-ed25519 SHA256:.*, got ssh-ed25519 SHA256:") as caught:
        fetch(lab, access)
    assert caught.value.problem == "changed-host"


def test_a_server_that_is_not_reached(lab: Lab, host: Host) -> None:
    access = host.access()
    host.stop()
    with pytest.raises(GitDown, match=r"github.com: expected a login") as caught:
        fetch(lab, access)
    assert caught.value.problem == "unreachable"


def test_a_repository_that_is_not_there(lab: Lab, host: Host) -> None:
    other = lab.model_copy(update={"git": lab.git.model_copy(update={"url": "ssh://git@github.com/efym/other.git"})})
    with pytest.raises(GitDown, match=r"not found"):
        fetch(other, host.access())


def test_a_key_that_is_none_is_told_and_not_shown(lab: Lab, host: Host) -> None:
    with pytest.raises(SystemDown) as caught:
        fetch(lab, host.access(**{lab.git.deploy_key: "this-is-not-a-private-key"}))
    assert "this-is-not" not in str(caught.value)


def test_nothing_secret_stands_on_a_command_line_or_in_the_copy(lab: Lab, host: Host) -> None:
    access = host.access()
    fetch(lab, access)
    secret = host.key.splitlines()[1].encode()
    assert not [path for path in access.state.rglob("*") if path.is_file() and secret in path.read_bytes()]


@pytest.mark.parametrize(("url", "found"), [
    ("ssh://git@github.com/o/r.git", ("github.com", 22, "git")), ("git@github.com:o/r.git", ("github.com", 22, "git")),
    ("ssh://forge@git.lan:2222/o/r.git", ("git.lan", 2222, "forge")), ("ssh://git.lan/r", ("git.lan", 22, "git")),
])  # fmt: skip
def test_servers_of_urls(url: str, found: tuple[str, int, str]) -> None:
    server = git_host(url)
    assert (server.host, server.port, server.user) == found


def test_flux_needs_ssh() -> None:
    with pytest.raises(InputError, match=r"ssh://"):
        git_host("https://github.com/o/r.git")


def with_hosts(lab: Lab, value: str | None, url: str = "") -> Lab:
    changes = {"known_hosts": value, **({"url": url} if url else {})}
    return lab.model_copy(update={"git": lab.git.model_copy(update=changes)})


def test_known_hosts_come_from_the_lab_file_its_file_the_user_or_the_owner(lab: Lab, host: Host) -> None:
    access = host.access()
    (access.state / PINNED).unlink()
    line = f"github.com {host.server.public_host_key}\n"
    assert known_hosts(with_hosts(lab, f"# mine\n{line}gitlab.com ssh-rsa AAAA"), access) == line
    file = access.path("~/.config/hosts")
    file.parent.mkdir(parents=True)
    file.write_text(f"github.com,140.82.121.3 {host.server.public_host_key} a comment\n", encoding="utf-8")
    assert known_hosts(with_hosts(lab, "~/.config/hosts"), access) == line
    published = known_hosts(lab, access)
    assert published.count("github.com ") == 2
    users = access.path("~/.ssh/known_hosts")
    users.parent.mkdir(parents=True)
    users.write_text(line, encoding="utf-8")
    assert known_hosts(lab, access) == line
    with pytest.raises(SystemDown, match=r"git.lan: expected its host key to be known"):
        known_hosts(with_hosts(lab, None, "ssh://git@git.lan/o/r.git"), access)
    with pytest.raises(InputError, match=r"no-such"):
        known_hosts(with_hosts(lab, "~/no-such"), access)


def test_a_closed_lab_has_no_other_git_server(lab: Lab, host: Host) -> None:
    access = replace(host.access(), connect={})
    with pytest.raises(SystemDown, match=r"github.com:22"):
        fetch(lab, access)

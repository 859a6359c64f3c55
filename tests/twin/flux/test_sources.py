"""What keeps a GitRepository from being fetched, and what it leaves out."""

from __future__ import annotations

import asyncio

import pytest

from labkit.twin.git.client import git
from labkit.twin.secrets import ssh_private_key, ssh_public_key

from .conftest import SOURCE, condition, config_map, source

OTHER = ssh_private_key(b"o" * 32)
FILES = {"apps/a.yaml": config_map("a", x="1"), "README.md": "hello\n", "docs/picture.png": "x", ".sops.yaml": "{}\n"}


@pytest.mark.parametrize(
    ("secret", "spec", "reason", "said"),
    [
        (None, {}, "AuthenticationFailed", "failed to get secret 'flux-system/flux-system'"),
        ({"known_hosts": ""}, {}, "AuthenticationFailed", "'known_hosts' is required"),
        ({"identity": OTHER}, {}, "GitOperationFailed", "ssh: unable to authenticate"),
        ({"known_hosts": f"git.lab {ssh_public_key(OTHER)}\n"}, {}, "GitOperationFailed", "knownhosts: key mismatch"),
        ({"known_hosts": f"other {ssh_public_key(OTHER)}\n"}, {}, "GitOperationFailed", "knownhosts: key is unknown"),
        ({}, {"ref": {"branch": "absent"}}, "GitOperationFailed", 'couldn\'t find remote ref "refs/heads/absent"'),
        ({}, {"ref": {"semver": ">=2"}}, "GitOperationFailed", "no match found for semver: >=2"),
        ({}, {"url": "ssh://git@elsewhere/x.git"}, "GitOperationFailed", "no such host"),
        ({}, {"url": "https://git.lab/x.git"}, "GitOperationFailed", "no such host"),
        ({}, {"url": "ssh://git@git.lab/other.git"}, "GitOperationFailed", "repository not found"),
    ],
)
def test_what_is_wrong_is_said_in_its_own_words(lab, secret, spec, reason, said) -> None:
    async def story() -> None:
        async with lab({"a.yaml": config_map("a", x="1")}) as one:
            if secret is not None:
                one.apply(one.secret(**secret))
            one.apply(source(**spec))
            await one.fails(SOURCE, "flux-system", reason, said)
            assert condition(one.get(SOURCE, "flux-system"), "FetchFailed")[0] == "True"

    asyncio.run(story())


def test_a_host_that_comes_back_and_a_secret_that_is_mended(lab) -> None:
    async def story() -> None:
        async with lab(FILES) as one:
            one.apply(source(interval="1h"))
            await one.fails(SOURCE, "flux-system", "AuthenticationFailed")
            one.apply(one.secret())
            await one.until(lambda: one.ready(SOURCE, "flux-system")[0] == "True")
            assert condition(one.get(SOURCE, "flux-system"), "FetchFailed")[0] == ""
            await one.server.stop()
            one.request(SOURCE, "flux-system", "again")
            await one.fails(SOURCE, "flux-system", "GitOperationFailed", "connection refused")
            assert one.get(SOURCE, "flux-system")["status"]["artifact"]["revision"].endswith(one.bare.head())

    asyncio.run(story())


@pytest.mark.parametrize(
    ("spec", "revision", "files"),
    [
        ({}, "main@sha1:{head}", {"apps/a.yaml", "README.md"}),
        ({"ref": {"tag": "v1.2.0"}}, "v1.2.0@sha1:{head}", {"apps/a.yaml", "README.md"}),
        ({"ref": {"semver": "1.x"}}, "v1.2.0@sha1:{head}", {"apps/a.yaml", "README.md"}),
        ({"ref": {"name": "refs/heads/main"}}, "refs/heads/main@sha1:{head}", {"apps/a.yaml", "README.md"}),
        ({"ignore": "/*\n!/docs\n"}, "main@sha1:{head}", {"docs/picture.png"}),
    ],
)
def test_references_and_what_is_left_out(lab, spec, revision, files) -> None:
    async def story() -> None:
        async with lab(FILES) as one:
            head = one.bare.head()
            for tag in ("v1.0.0", "v1.2.0", "v2.0.0-rc1"):
                await asyncio.to_thread(git, ["-C", one.bare.folder, "tag", tag, head])
            one.apply(one.secret(), source(**spec))
            await one.until(lambda: one.ready(SOURCE, "flux-system")[0] == "True")
            seen = one.get(SOURCE, "flux-system")["status"]["artifact"]["revision"]
            assert seen == revision.format(head=head)
            folder = one.around.artifacts.path(("GitRepository", "flux-system", "flux-system"), seen)
            assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == files

    asyncio.run(story())

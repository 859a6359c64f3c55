from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.errors import InputError
from labkit.lab import Lab, load_lab
from labkit.lab.apploader import load_app
from labkit.lab.apprender import RepoForm, render_app, render_secret
from labkit.lab.apps import looks_secret, volume_name
from labkit.twin.repository import DATA

ROOT = Path(__file__).parents[2]
APPS = DATA / "kubernetes/apps"
FORM = RepoForm(
    tls_secret="efym-net-tls",
    pins={
        "actual-data": "pvc-61d2d7b0-3ce1-539e-ac58-9e2639818c48",
        "linkding-data": "pvc-a429628f-78cf-5b45-b31d-b281ae854594",
        "jellyfin-config": "pvc-f0426ba0-2ab7-5da6-b81b-87df98a01a51",
    },
)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return load_lab(ROOT / "tests/data/gitops/lab.yaml")


SAME: dict[str, dict[str, Any]] = {
    "whoami": {"image": "ghcr.io/traefik/whoami:v1.11.0", "port": 80, "replicas": 2, "health": "/health",
               "memory": "64Mi"},
    "actual": {"image": "ghcr.io/actualbudget/actual:25.9.0", "port": 5006, "host": "budget.efym.net", "config": "5Gi",
               "config_path": "/data"},
    "files": {"image": "docker.io/filebrowser/filebrowser:v2.44.0", "port": 8080, "health": "/health",
              "args": ["--noauth", "--port=8080", "--root=/srv", "--database=/tmp/filebrowser.db"],
              "nfs": ["/mnt/tank/documents:/srv/documents", "/mnt/tank/pictures:/srv/pictures"]},
    "linkding": {"image": "docker.io/sissbruecker/linkding:1.41.0", "port": 9090, "host": "links.efym.net",
                 "health": "/health", "volume": {"size": "2Gi", "mount": "/etc/linkding/data", "backup": "often"},
                 "env": {"LD_ENABLE_AUTH_PROXY": "True", "LD_AUTH_PROXY_USERNAME_HEADER": "HTTP_REMOTE_USER",
                         "LD_CSRF_TRUSTED_ORIGINS": "https://links.efym.net", "LD_SUPERUSER_NAME": "admin"},
                 "secrets": {"LD_SUPERUSER_PASSWORD": "env:LINKDING_PASSWORD"}},
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_an_app_is_rendered_exactly_in_the_form_of_the_repository(lab: Lab, name: str) -> None:
    app = load_app(lab, name=name, **SAME[name])
    for file, text in render_app(app, FORM).items():
        assert text == (APPS / name / file).read_text(encoding="utf-8"), file
    wanted = {path.name.replace(".plain", "") for path in (APPS / name).iterdir()} - {"secret.yaml"}
    assert set(render_app(app, FORM)) == wanted


def test_volumes_of_the_nas_are_static_and_read_only_where_it_is_said(lab: Lab) -> None:
    nfs = ["/mnt/tank/media/movies:/media/movies:ro", "/mnt/tank/media/shows:/media/shows:ro"]
    image = "docker.io/jellyfin/jellyfin:10.10.7"
    app = load_app(lab, name="jellyfin", image=image, port=8096, config="10Gi", nfs=nfs)
    files = render_app(app, FORM)
    for file in ("pv.yaml", "pvc.yaml"):
        assert files[file] == (APPS / "jellyfin" / file).read_text(encoding="utf-8")
    assert "readOnly: true" in files["deployment.yaml"]


def test_a_new_volume_is_not_pinned_since_no_volume_is_there_yet(lab: Lab) -> None:
    app = load_app(lab, name="fresh", image="x:1", port=80, config="1Gi")
    assert "volumeName" not in render_app(app, FORM)["pvc.yaml"]


def test_settings_that_yaml_would_read_as_something_else_are_quoted(lab: Lab) -> None:
    env = {"A": "true", "B": "1", "C": "no", "D": "a: b", "E": "", "F": " x", "G": "two\nlines", "H": "plain text"}
    text = render_app(load_app(lab, name="q", image="x:1", port=80, env=env), FORM)["deployment.yaml"]
    from ruamel.yaml import YAML

    tree = YAML(typ="safe").load(text)
    found = tree["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {one["name"]: one["value"] for one in found} == env
    assert "value: plain text\n" in text


def test_a_secret_has_every_key_once_and_in_order(lab: Lab) -> None:
    app = load_app(lab, name="s", image="x:1", port=80, authentication="oidc", callback="/cb",
                   secrets={"B_TOKEN": "env:B", "A_TOKEN": "env:A"})  # fmt: skip
    text = render_secret(app, {"B_TOKEN": "b", "A_TOKEN": "yes", "OIDC_CLIENT_SECRET": "c"})
    assert text.index("B_TOKEN") < text.index("A_TOKEN") < text.index("OIDC_CLIENT_SECRET")
    assert 'A_TOKEN: "yes"' in text


GOOD: dict[str, Any] = {"name": "demo", "image": "ghcr.io/traefik/whoami:v1", "port": 80}
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"port": 70000}, "port: expected a number of at most 65535, got `70000`"),
    ({"port": -1}, "port: expected a number of at least 1, got `-1`"),
    ({"image": "a b"}, "image: expected a container image"),
    ({"host": "demo.example.org"}, "under efym.net, got `demo.example.org`; did you mean `demo.efym.net`?"),
    ({"host": "a.b.efym.net"}, "host: expected one label before efym.net"),
    ({"host": "Demo"}, "host: expected a host name in lower case"),
    ({"name": "Demo_1"}, "name: expected a name of lower-case letters"),
    ({"authentication": "basic"}, "authentication: expected one of 'forward', 'oidc' or 'none', got `basic`"),
    ({"authentication": "oidc"}, "expected oidc with its callback"),
    ({"authentication": "oidc", "callback": "cb"}, "oidc.callback[0]: expected a path that begins with a slash"),
    ({"nfs": ["/mnt/tank"]}, "nfs[0]: expected an NFS mount, export:mount"),
    ({"nfs": ["/mnt/../etc:/data"]}, "nfs[0].export: expected an absolute path on the NAS"),
    ({"nfs": ["/mnt/tank:/etc"]}, "nfs[0].mount: expected an absolute path inside the container"),
    ({"nfs": ["/mnt/a:/x/data", "/mnt/b:/y/data"]}, "expected mounts that end in different names"),
    ({"config": "5 Gigs"}, "volume.size: expected a size such as 5Gi, got `5 Gigs`"),
    ({"config": "5Gi", "config_path": "config"}, "volume.mount: expected an absolute path"),
    ({"config": "5Gi", "replicas": 2}, "expected one replica with a volume"),
    ({"replicas": 200}, "replicas: expected a number of at most 20"),
    ({"colour": "red"}, "colour: expected one of name, image"),
    ({"imagee": "x"}, "did you mean `image`?"),
    ({"env": {"A-B C": "x"}}, "expected the name of an environment variable"),
    ({"env": {"TOKEN": "x", "LOG": 1}}, "env.LOG: expected a text"),
    ({"secrets": {"A": "env:X"}, "env": {"A": "x"}}, "expected each name in env or in secrets, not A in both"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_mistakes_are_told_with_reasons(lab: Lab, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_app(lab, **{**GOOD, **given})
    assert said in str(caught.value)


@pytest.mark.parametrize("given", [
    {"secrets": {"API_KEY": "hunter2-hunter2"}}, {"env": {"DB_PASSWORD": "hunter2-hunter2"}},
    {"env": {"API_TOKEN": "hunter2-hunter2", "X": 1}},
])  # fmt: skip
def test_a_secret_in_clear_is_refused_and_never_shown(lab: Lab, given: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        load_app(lab, **{**GOOD, **given})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("name", "value", "is_secret"), [
    ("DB_PASSWORD", "x", True), ("API_KEY", "x", True), ("apikey", "x", True), ("GITHUB_TOKEN", "x", True),
    ("PASSWORD_FILE", "/run/x", False), ("DB_PASSWORD", "${DB}", False), ("DISABLE_PASSWORD_AUTH", "true", False),
    ("TOKEN", "", False), ("TOKENIZER", "fast", False), ("LOG", "debug", False), ("PRIVATE_KEY", "abc", True),
])  # fmt: skip
def test_which_settings_are_secrets(name: str, value: str, is_secret: bool) -> None:
    assert looks_secret(name, value) is is_secret


def test_a_file_gives_what_the_parameters_do_not_say_with_places_of_its_mistakes(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text("name: demo\nimage: x:1\nport: 80\nvolume: {size: 1Gi, mount: /data}\n", encoding="utf-8")
    app = load_app(lab, file=file, image="x:2", config="2Gi")
    assert (app.image, app.port, app.host) == ("x:2", 80, "demo.efym.net")
    assert app.volume is not None
    assert (app.volume.size, app.volume.mount) == ("2Gi", "/data")
    file.write_text("name: demo\nimage: x:1\nport: 99999\nsecrets:\n  A: literal-secret\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_app(lab, file=file)
    assert f"{file}:3:" in str(caught.value)
    assert f"{file}:5:" in str(caught.value)
    assert "literal-secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "name: [\n", "a: 1\n---\nb: 2\n", "\tname: x\n", "\x00"])
def test_a_file_that_is_no_app_is_told(lab: Lab, tmp_path: Path, text: str) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        load_app(lab, file=file)


def test_volumes_are_named_after_the_end_of_their_path() -> None:
    assert [volume_name(path) for path in ("/config", "/media/Movies", "/etc/x_y.z", "/")] == [
        "config", "movies", "x-y-z", "data",
    ]  # fmt: skip


def test_the_example_of_the_repository_is_an_app(lab: Lab) -> None:
    for file in (ROOT / "parameters/apps").glob("*.yaml"):
        assert load_app(lab, file=file).name == file.stem

"""Repositories are read as Flux would build them, with the real kubectl and the real sops."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.checks.repository import check_repository
from labkit.errors import InputError
from labkit.facts.repository import RepositoryFacts
from labkit.secrets import sops_program
from labkit.systems.repository import read_repository
from labkit.systems.repository.substitute import substitute

SYNC = """apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {url: "ssh://git@example.net/lab.git"}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec: {path: ./cluster, timeout: 5m, sourceRef: {kind: GitRepository, name: flux-system}}
"""


PATCH = """patches:
  - patch: |
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: none}
"""


def apps(**spec: object) -> str:
    whole = {"path": "./apps", "timeout": "5m", "sourceRef": {"kind": "GitRepository", "name": "flux-system"}, **spec}
    tree = {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "apps", "namespace": "flux-system"}, "spec": whole}  # fmt: skip
    return json.dumps(tree)


def config(name: str, **data: str) -> str:
    rows = "".join(f"  {key}: {value}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n" + (f"data:\n{rows}" if rows else "")


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def read(root: Path, files: dict[str, str | bytes], **spec: object) -> RepositoryFacts:
    return read_repository(write(root, {"cluster/gotk-sync.yaml": SYNC, "cluster/apps.yaml": apps(**spec), **files}))


def names(facts: RepositoryFacts) -> list[str]:
    return sorted(r.name for c in facts.clusters for b in c.builds if b.source.name == "apps" for r in b.resources)


def ids(facts: RepositoryFacts) -> list[tuple[str, str, int]]:
    return [(f.id, f.file, f.line) for f in check_repository(facts)]


def ignoring(text: str) -> str:
    return SYNC.replace('lab.git"}', f'lab.git", ignore: {json.dumps(text)}}}')


def test_what_sourceignore_leaves_out_is_not_built_at_the_root_and_below(tmp_path: Path) -> None:
    facts = read(
        tmp_path,
        {
            ".sourceignore": "# not for the cluster\n/old/\n*.draft.yaml\n",
            "apps/a/.sourceignore": "two.yaml\n!deep/\n",
            "apps/a/one.yaml": config("one"),
            "apps/a/two.yaml": config("two"),
            "apps/a/deep/two.yaml": config("deep"),
            "apps/a/three.draft.yaml": "a: b: c\n",
            "apps/b/two.yaml": config("other"),
            "old/broken.yaml": "a: b: c\n",
            "old/alert.yaml": "apiVersion: notification.toolkit.fluxcd.io/v1beta1\nkind: Alert\nmetadata: {name: a}\n",
        },
    )
    assert names(facts) == ["deep", "one", "other"]
    assert {"old/broken.yaml", "apps/a/three.draft.yaml", "apps/a/two.yaml"} <= facts.ignored
    assert ids(facts) == []


def test_a_kustomization_that_lists_what_is_left_out_does_not_build(tmp_path: Path) -> None:
    files = {"apps/a/kustomization.yaml": "resources:\n  - one.yaml\n  - two.yaml\n", "apps/a/one.yaml": config("one"),
             "apps/a/two.yaml": config("two")}  # fmt: skip
    assert ids(read(tmp_path, files)) == []
    found = check_repository(read(tmp_path, {".sourceignore": "two.yaml\n"}))
    assert [(f.id, f.file, f.line) for f in found] == [("build-failed", "apps/a/kustomization.yaml", 3)]
    assert "apps/a/two.yaml is left out by .sourceignore or spec.ignore" in found[0].why
    assert ids(read(tmp_path, {".sourceignore": "/apps/\n"})) == [("flux-path-missing", "cluster/apps.yaml", 1)]


def test_flux_leaves_pictures_out_by_itself_until_patterns_are_given(tmp_path: Path) -> None:
    picture = "configMapGenerator:\n  - {name: logo, files: [logo.png]}\n"
    files: dict[str, str | bytes] = {"apps/a/kustomization.yaml": picture, "apps/a/logo.png": b"\x89PNG"}
    found = check_repository(read(tmp_path, files))
    assert [f.id for f in found] == ["build-failed"]
    assert "logo.png" in found[0].why
    assert names(read(tmp_path, {".sourceignore": "/docs/\n"})) == ["logo-" + names(read(tmp_path, {}))[0][5:]]


def test_spec_ignore_takes_the_place_of_the_defaults_and_goes_over_the_files(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "cluster/gotk-sync.yaml": ignoring("/*\n!/cluster\n!/apps\n/apps/b/\n"), "apps/a/one.yaml": config("one"),
        "apps/b/two.yaml": config("two"), "apps/a/.sourceignore": "one.yaml\n", "notes/broken.yaml": "a: b: c\n",
    }  # fmt: skip
    facts = read_repository(write(tmp_path, {"cluster/apps.yaml": apps(), **files}))
    assert names(facts) == ["one"]
    assert ids(facts) == []
    files["cluster/gotk-sync.yaml"] = ignoring("")
    facts = read_repository(write(tmp_path, files))
    assert names(facts) == ["two"]
    assert ids(facts) == [("yaml-invalid", "notes/broken.yaml", 1)]


def test_a_source_of_its_own_has_its_own_patterns(tmp_path: Path) -> None:
    other = SYNC.partition("---")[0].replace("name: flux-system,", "name: other,").replace(
        'lab.git"}', 'lab.git", ignore: "two.yaml"}'
    )  # fmt: skip
    files: dict[str, str | bytes] = {"cluster/other.yaml": other, "apps/one.yaml": config("one"),
                                     "apps/two.yaml": config("two")}  # fmt: skip
    facts = read(tmp_path, files, sourceRef={"kind": "GitRepository", "name": "other"})
    assert names(facts) == ["one"]
    assert "apps/two.yaml" not in facts.ignored


def test_a_generated_kustomization_takes_every_manifest_and_folders_with_their_own(tmp_path: Path) -> None:
    facts = read(
        tmp_path,
        {
            "apps/a/one.yaml": config("one"),
            "apps/a/deep/two.yml": config("two"),
            "apps/b/kustomization.yaml": "resources: [three.yaml]\nnamePrefix: my-\n",
            "apps/b/three.yaml": config("three"),
            "apps/b/unlisted.yaml": config("unlisted"),
            "apps/notes.txt": "no manifest",
        },
    )
    assert names(facts) == ["my-three", "one", "two"]
    assert ids(facts) == []
    place = {r.name: (r.file, r.line) for r in facts.clusters[0].resources}
    assert place["my-three"] == ("apps/b/three.yaml", 1)


def test_options_of_flux_are_applied(tmp_path: Path) -> None:
    facts = read(
        tmp_path,
        {"apps/one.yaml": config("one", host="app.${DOMAIN}", kept="$${HOME}", other="${NONE:-default}")},
        targetNamespace="media",
        patches=[{"target": {"kind": "ConfigMap"}, "patch": "- {op: add, path: /data/patched, value: 'yes'}"}],
        postBuild={"substitute": {"DOMAIN": "efym.net"}},
        commonMetadata={"labels": {"team": "home"}},
    )
    one = next(r for r in facts.clusters[0].resources if r.name == "one")
    assert one.namespace == "media"
    assert one.get("data") == {"host": "app.efym.net", "kept": "${HOME}", "other": "default", "patched": "yes"}
    assert one.labels == {"team": "home"}
    assert one.line_at("data", "kept") == 7


def test_variables_come_from_config_maps_and_encrypted_ones_stay(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: hidden}\nstringData: {TOKEN: 'ENC[x]'}\nsops: {mac: x}\n"
    facts = read(
        tmp_path,
        {
            "cluster/vars.yaml": config("vars", DOMAIN="efym.net"),
            "cluster/hidden.yaml": secret,
            "apps/one.yaml": config("one", a="${DOMAIN}", b="${TOKEN}", c="${TYPO}"),
        },
        postBuild={"substituteFrom": [{"kind": "ConfigMap", "name": "vars"}, {"kind": "Secret", "name": "hidden"}]},
    )
    one = next(r for r in facts.clusters[0].resources if r.name == "one")
    assert one.get("data") == {"a": "efym.net", "b": "${TOKEN}", "c": None}
    assert ("flux-variable-undefined", "apps/one.yaml", 8) in ids(facts)


def test_inputs_outside_of_the_repository_make_no_claim(tmp_path: Path) -> None:
    facts = read(
        tmp_path,
        {"apps/one.yaml": config("one", a="${ANY}")},
        postBuild={"substituteFrom": [{"kind": "Secret", "name": "made-by-hand"}]},
    )
    assert ids(facts) == []


@pytest.mark.parametrize(
    ("files", "file", "line", "word"),
    [
        ({"apps/kustomization.yaml": "resources:\n  - gone.yaml\n"}, "apps/kustomization.yaml", 2, "does not exist"),
        ({"apps/a/kustomization.yaml": "resources:\n  - ../gone\n"}, "apps/a/kustomization.yaml", 2, "apps/gone"),
        ({"apps/one.yaml": "a: b\nb: c: d\n"}, "apps/one.yaml", 2, "no valid YAML"),
        ({"apps/values.yaml": "replicas: 2\n"}, "apps/values.yaml", 1, "metadata"),
        ({"apps/a.yaml": config("n"), "apps/b.yaml": "# c\n" + config("n")}, "apps/b.yaml", 2, "already"),
        ({"apps/one.yaml": config("n") + "data:\n  a: x\n  a: y\n"}, "apps/one.yaml", 7, "stands twice"),
        ({"apps/kustomization.yaml": "resources: []\nfoo: 1\n"}, "apps/kustomization.yaml", 2, "foo"),
        ({"apps/a/kustomization.yaml": f"resources: [x.yaml]\n{PATCH}", "apps/a/x.yaml": config("x")},
          "apps/a/kustomization.yaml", 2, "none"),
        ({"apps/one.yaml": config("é").encode("latin-1")}, "apps/one.yaml", 4, "UTF-8"),
    ],
)  # fmt: skip
def test_what_does_not_build_is_told_at_its_cause(
    tmp_path: Path, files: dict[str, str | bytes], file: str, line: int, word: str
) -> None:
    found = check_repository(read(tmp_path, {"apps/fine/kustomization.yaml": "resources: [f.yaml]\n",
                                             "apps/fine/f.yaml": config("fine"), **files}))  # fmt: skip
    assert [(f.id, f.file, f.line) for f in found if f.severity.rank > 1] == [("build-failed", file, line)], found
    assert word in next(f.why for f in found if f.id == "build-failed")


def test_all_broken_parts_are_told_at_once_and_the_others_are_known(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for name in ("a", "b", "c"):
        files[f"apps/{name}/kustomization.yaml"] = "resources: [x.yaml, gone.yaml]\n"
        files[f"apps/{name}/x.yaml"] = config(name)
    files["apps/d/x.yaml"] = config("d")
    facts = read(tmp_path, files)
    assert [file for name, file, _ in ids(facts) if name == "build-failed"] == [
        f"apps/{name}/kustomization.yaml" for name in ("a", "b", "c")
    ]
    assert names(facts) == ["a", "b", "c", "d"]  # failed parts as they stand in their files


def test_large_trees_are_built_in_parts_with_the_same_result(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for number in range(60):
        folder = f"apps/group{number % 3}/app{number:02}"
        files |= {f"{folder}/{i}.yaml": config(f"c{number}-{i}") for i in range(4)}
        files[f"{folder}/kustomization.yaml"] = "resources: [0.yaml, 1.yaml, 2.yaml, 3.yaml]\n"
    for group in range(3):
        mine = [f"  - app{n:02}\n" for n in range(60) if n % 3 == group]
        files[f"apps/group{group}/kustomization.yaml"] = "resources:\n" + "".join(mine)
    files["apps/kustomization.yaml"] = "resources: [group0, group1, group2]\n"
    files["apps/group0/app00/3.yaml"] = config("c1-0")  # a name that another part makes as well
    facts = read(tmp_path, files)
    assert facts.counts["kustomize calls"] > 2
    assert len(names(facts)) == 239
    assert [name for name, _, _ in ids(facts)] == ["build-failed"]
    why = check_repository(facts)[0].why
    assert "apps/group1/app01/0.yaml" in why or "apps/group0/app00/3.yaml" in why


def test_paths_sources_and_remote_bases(tmp_path: Path) -> None:
    other = """apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: other, namespace: flux-system}
spec: {url: "https://example.net/other.git"}
"""
    foreign = apps(sourceRef={"kind": "GitRepository", "name": "other"}).replace('"apps"', '"foreign"')
    facts = read(
        tmp_path,
        {
            "cluster/other.yaml": other,
            "cluster/foreign.yaml": foreign,
            "cluster/gone.yaml": apps(path="./nowhere").replace('"apps"', '"gone"'),
            "apps/kustomization.yaml": "resources: [https://example.net/base.yaml]\n",
        },
    )
    assert ids(facts) == [
        ("not-built", "apps/kustomization.yaml", 1),
        ("flux-path-missing", "cluster/gone.yaml", 1),
    ]
    assert not facts.clusters[0].is_complete


def test_two_clusters_and_a_flux_instance(tmp_path: Path) -> None:
    instance = """apiVersion: fluxcd.controlplane.io/v1
kind: FluxInstance
metadata: {name: flux, namespace: flux-system}
spec: {sync: {kind: GitRepository, path: clusters/b, url: "ssh://x"}}
"""
    root = write(
        tmp_path,
        {
            "clusters/a/gotk-sync.yaml": SYNC.replace("./cluster", "clusters/a"),
            "clusters/a/one.yaml": config("one"),
            "clusters/b/one.yaml": config("one"),
            "bootstrap/instance.yaml": instance,
        },
    )
    facts = read_repository(root)
    assert sorted(c.name for c in facts.clusters) == ["clusters/a", "clusters/b"]
    assert ids(facts) == []


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    facts = read(
        tmp_path,
        {
            "apps/one.yaml": config("one"),
            "charts/x/Chart.yaml": "name: x\n",
            "charts/x/templates/secret.yaml": "kind: Secret\ndata: {{ .Values.x }}\n",
            "ansible/play.yaml": "{% if x %}\n- a: {{ b }}\n{% endif %}\n",
            "utf16.yaml": "a: é\n".encode("utf-16"),
            "bom.yaml": b"\xef\xbb\xbfa: 1\n",
            "empty.yaml": "",
            "comment.yaml": "# nothing\n",
            "list.yaml": "- 1\n- 2\n",
            "broken.yaml": "a: b: c\n",
            "binary.yaml": bytes(range(256)),
            "nul.yaml": "a: \x00\n",
            "deep.yaml": "[" * 30_000,
            "many.yaml": "---\n" * 1000,
        },
    )
    assert sorted(file for name, file, _ in ids(facts)) == ["binary.yaml", "broken.yaml", "deep.yaml", "nul.yaml"]
    assert {name for name, _, _ in ids(facts)} == {"yaml-invalid"}


def test_git_says_which_files_count(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "ignored/\n", "ignored/broken.yaml": "a: b: c\n", "apps/one.yaml": config("one")})
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    facts = read(tmp_path, {})
    assert ids(facts) == []
    assert names(facts) == ["one"]


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder of a repository"):
        read_repository(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"closed.yaml": "a: 1\n"})
    (tmp_path / "closed.yaml").chmod(0)
    assert [name for name, _, _ in ids(read(tmp_path, {"apps/one.yaml": config("one")}))] == ["yaml-invalid"]


class TestEncrypted:
    """Files that the real sops wrote."""

    mine = pyrage.x25519.Identity.generate()
    other = pyrage.x25519.Identity.generate()

    def repository(self, root: Path, recipients: str, rule: str | None = None) -> Path:
        write(root, {
            "cluster/gotk-sync.yaml": SYNC, "apps/.keep": "",
            ".sops.yaml": f"creation_rules:\n  - path_regex: secret.*\n    age: {recipients}\n",
        })  # fmt: skip
        text = b"apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\nstringData:\n  password: hunter2hunter\n"
        argv = [sops_program(), "encrypt", "--encrypted-regex", "^stringData$", "--filename-override", "secret.yaml",
                "--input-type", "yaml", "--output-type", "yaml", "/dev/stdin"]  # fmt: skip
        done = subprocess.run(argv, input=text, cwd=root, capture_output=True, check=True)
        (root / "secret.yaml").write_bytes(done.stdout)
        if rule is not None:
            (root / ".sops.yaml").write_text(f"creation_rules:\n  - path_regex: secret.*\n    age: {rule}\n")
        return root

    def found(self, root: Path, key: object = None) -> list[str]:
        return [f.id for f in check_repository(read_repository(root, age_keys=[str(key)] if key else []))]

    def test_the_right_key_opens_it(self, tmp_path: Path) -> None:
        root = self.repository(tmp_path, str(self.mine.to_public()))
        assert self.found(root, self.mine) == []

    def test_another_key_does_not(self, tmp_path: Path) -> None:
        root = self.repository(tmp_path, str(self.mine.to_public()))
        assert self.found(root, self.other) == ["sops-key"]
        assert self.found(root) == []

    def test_recipients_that_differ_from_the_rule(self, tmp_path: Path) -> None:
        mine, other = str(self.mine.to_public()), str(self.other.to_public())
        assert self.found(self.repository(tmp_path / "lacking", mine, f"{mine},{other}")) == ["sops-recipients"]
        assert self.found(self.repository(tmp_path / "surplus", f"{mine},{other}", mine)) == ["sops-recipients"]
        assert self.found(self.repository(tmp_path / "both", mine, other)) == ["sops-recipients"] * 2
        assert self.found(self.repository(tmp_path / "same", f"{mine},{other}", f"{other},{mine}")) == []

    def test_a_value_that_was_edited_in_clear(self, tmp_path: Path) -> None:
        root = self.repository(tmp_path, str(self.mine.to_public()))
        path = root / "secret.yaml"
        path.write_text(path.read_text().replace("name: a", "name: b"))
        assert self.found(root, self.mine) == ["sops-mac"]

    def test_a_rule_for_other_paths_says_nothing(self, tmp_path: Path) -> None:
        root = self.repository(tmp_path, str(self.mine.to_public()))
        text = f"creation_rules:\n  - path_regex: other/.*\n    age: {self.other.to_public()}\n"
        (root / ".sops.yaml").write_text(text)
        assert self.found(root) == []

    def test_an_age_key_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="AGE-SECRET-KEY"):
            read_repository(self.repository(tmp_path, str(self.mine.to_public())), age_keys=["no key"])


@pytest.mark.parametrize(
    ("text", "expected", "missing"),
    [
        ("${A}", "1", []),
        ("x${A}y${A}", "x1y1", []),
        ("${NONE}", "", ["NONE"]),
        ("${NONE:-d}", "d", []),
        ("${NONE-d}", "d", []),
        ("${EMPTY:-d}", "d", []),
        ("${EMPTY-d}", "", []),
        ("${NONE:=d:e}", "d:e", []),
        ("$${A}", "${A}", []),
        ("$A", "$A", []),
        ("${HIDDEN}", "${HIDDEN}", []),
        ("${HIDDEN:-d}", "${HIDDEN:-d}", []),
        ("${WORD^^}", "WORD", []),
        ("${1bad}", "${1bad}", []),
        ("${A", "${A", []),
    ],
)
def test_substitution(text: str, expected: str, missing: list[str]) -> None:
    inputs = {"A": "1", "EMPTY": "", "HIDDEN": None, "WORD": "word"}
    assert substitute(text, inputs) == (expected, frozenset(missing))


PIECES = st.sampled_from([
    "apiVersion: v1", "kind: Secret", "kind: Kustomization", "metadata:", "  name: a", "spec:", "  path: ./", "  - a",
    "data:", "  x: |", "    password: Zk3Tq9LmXw81", "---", "sops: {mac: 1}", "resources:", "  - .", "  - ../a", "\t",
    "  sourceRef: 5", "  dependsOn: {}", "  routes: [[], 1, {match: 3}]", "<<: *x", "&x a: 1", "  values: [1, {a: }]",
    "kind: IngressRoute", "apiVersion: kustomize.toolkit.fluxcd.io/v1", "apiVersion: traefik.io/v1alpha1", "é", "{{",
    "kind: HelmRelease", "apiVersion: helm.toolkit.fluxcd.io/v2", "  tls: 3", "  chart: []", "  groups: 4",
])  # fmt: skip


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=20), st.lists(PIECES, max_size=20), st.binary(max_size=40))
def test_odd_trees_never_end_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, one: list[str], two: list[str], raw: bytes
) -> None:
    root = tmp_path_factory.mktemp("odd")
    files: dict[str, str | bytes] = {"apps/a.yaml": "\n".join(one), "apps/kustomization.yaml": "\n".join(two),
                                     "b.yaml": raw, ".sops.yaml": raw}  # fmt: skip
    facts = read(root, files)
    assert all(f.line > 0 for f in check_repository(facts))


def test_a_repository_whose_entry_is_in_a_charts_values(tmp_path: Path) -> None:
    """Kustomizations get what their parent patches into them, and only the topmost are entries."""
    patch = (
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: _}\nspec: {timeout: 5m}\n"
    )
    top = apps(patches=[{"patch": patch, "target": {"kind": "Kustomization"}}]).replace('"apps"', '"cluster-apps"')
    child = apps(path="./apps/media/app", targetNamespace="media", timeout=None)
    facts = read_repository(
        write(
            tmp_path,
            {
                "flux/cluster/ks.yaml": top,
                "apps/media/kustomization.yaml": "resources: [ks.yaml]\n",
                "apps/media/ks.yaml": child,
                "apps/media/app/one.yaml": config("one"),
            },
        )
    )
    assert [[build.source.name for build in cluster.builds] for cluster in facts.clusters] == [["cluster-apps", "apps"]]
    assert next(r for r in facts.clusters[0].resources if r.name == "one").namespace == "media"
    assert ids(facts) == []

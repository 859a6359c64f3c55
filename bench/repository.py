"""How quick the repository checker is on generated trees, against kustomize alone over the same Kustomizations.

flux-local's `test` is measured as well where it can run: it needs the programs `flux` and `kustomize`, which come with
no Python package.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from labkit.checks.repository import check_repository
from labkit.systems.repository import read_repository

SIZES = (1_000, 5_000)
_PER_APP = 5
_SYNC = """apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 1m0s
  url: ssh://git@example.net/lab.git
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: flux-system
  namespace: flux-system
spec:
  interval: 10m0s
  path: ./clusters/production
  prune: true
  sourceRef:
    kind: GitRepository
    name: flux-system
"""
_APPS = """apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: apps
  namespace: flux-system
spec:
  interval: 1h0m0s
  timeout: 5m0s
  path: ./apps
  prune: true
  sourceRef:
    kind: GitRepository
    name: flux-system
  postBuild:
    substitute:
      DOMAIN: efym.net
"""
_DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: 1
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      containers:
        - name: {name}
          image: ghcr.io/example/{name}:1.0.0
          env:
            - name: TZ
              value: Etc/UTC
            - name: BASE_URL
              value: https://{name}.${{DOMAIN}}
          ports:
            - name: http
              containerPort: 8080
          volumeMounts:
            - name: data
              mountPath: /data
      volumes:
        - name: data
          persistentVolumeClaim:
            claimName: {name}
"""
_SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector:
    app: {name}
  ports:
    - name: http
      port: 8080
      targetPort: http
"""
_CLAIM = """apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}
spec:
  accessModes:
    - ReadWriteOnce
  storageClassName: nfs
  resources:
    requests:
      storage: 5Gi
"""
_ROUTE = """apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata:
  name: {name}
spec:
  entryPoints:
    - websecure
  routes:
    - kind: Rule
      match: Host(`{name}.${{DOMAIN}}`)
      services:
        - name: {name}
          port: http
"""
_KUSTOMIZATION = """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: default
resources:
  - deployment.yaml
  - service.yaml
  - pvc.yaml
  - ingress.yaml
"""
_FILES = {
    "deployment.yaml": _DEPLOYMENT, "service.yaml": _SERVICE, "pvc.yaml": _CLAIM, "ingress.yaml": _ROUTE,
    "kustomization.yaml": _KUSTOMIZATION,
}  # fmt: skip


def generate(root: Path, files: int) -> Path:
    """Write a repository of about that many YAML files: one entry, and apps of five files each."""
    entry = root / "clusters/production"
    entry.mkdir(parents=True)
    (entry / "gotk-sync.yaml").write_text(_SYNC)
    (entry / "apps.yaml").write_text(_APPS)
    for number in range(files // _PER_APP):
        name = f"app-{number:04}"
        folder = root / "apps" / name
        folder.mkdir(parents=True)
        for file, text in _FILES.items():
            (folder / file).write_text(text.format(name=name) if "{name}" in text else text)
    return root


def processor_seconds() -> float:
    """Return the processor time that this process and the programs it ran have used."""
    own, programs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + programs.ru_utime + programs.ru_stime


def timed_check(root: Path) -> tuple[float, float, int]:
    """Return the seconds of a whole check, its processor seconds, and how many findings it gave."""
    began, used = time.perf_counter(), processor_seconds()
    findings = check_repository(read_repository(root))
    return time.perf_counter() - began, processor_seconds() - used, len(findings)


def timed_kustomize(root: Path) -> float:
    """Return the seconds of `kubectl kustomize` alone over the same two Kustomizations, one after the other."""
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    apps = "".join(f"  - {folder.name}\n" for folder in sorted((root / "apps").iterdir()))
    lists = {"apps": f"resources:\n{apps}", "clusters/production": "resources:\n  - gotk-sync.yaml\n  - apps.yaml\n"}
    took = 0.0
    for folder, text in lists.items():
        (root / folder / "kustomization.yaml").write_text(text)
        began = time.perf_counter()
        subprocess.run([kubectl, "kustomize", str(root / folder)], check=True, stdout=subprocess.DEVNULL)
        took += time.perf_counter() - began
        (root / folder / "kustomization.yaml").unlink()
    return took


def timed_flux_local(root: Path) -> float | None:
    """Return the seconds of flux-local's test, or None where it cannot run."""
    if not all(shutil.which(program) for program in ("flux-local", "flux", "kustomize")):
        return None
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    began = time.perf_counter()
    argv = ["flux-local", "test", "--no-enable-helm", "--path", "clusters/production"]
    done = subprocess.run(argv, cwd=root, check=False, capture_output=True, env=dict(os.environ))
    return time.perf_counter() - began if done.returncode == 0 else None


def figures() -> Iterator[Figure]:
    """Yield seconds, files per second, growth, and the ratio to kustomize alone (or to flux-local)."""
    took: list[float] = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            root = generate(Path(folder) / "repository", size)
            seconds, used, findings = timed_check(root)
            took.append(used)
            yield Figure(f"check repo, {size} files", seconds, "s", note=f"{findings} findings")
            yield Figure(f"check repo, {size} files", size / seconds, "files/s")
            alone = timed_kustomize(root)
            note = f"{seconds:.2f} s / {alone:.2f} s"
            yield Figure(f"check repo / kubectl kustomize alone, {size} files", seconds / alone, limit=1.5, note=note)
            if (other := timed_flux_local(root)) is not None:
                note = f"{other:.2f} s / {seconds:.2f} s"
                yield Figure(
                    f"flux-local test / check repo, {size} files", other / seconds, limit=5, least=True, note=note
                )
    growth = took[-1] / took[0]
    yield Figure("growth of processor time, 5 times the files", growth, "times", limit=6.0)

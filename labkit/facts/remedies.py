"""What most likely helps against a message of Flux, Helm, Git or the kubelet. Pure."""

from __future__ import annotations

import re

_KEY = (
    "the age key in Secret sops-age does not open that file: give git.age_key the right key and run bootstrap-flux, "
    "or sops updatekeys the file"
)
_IMMUTABLE = (
    "the field cannot change: delete the object (its data first), or annotate it with "
    "kustomize.toolkit.fluxcd.io/force: enabled"
)
_BUILD = "`labkit check repo` names the file and line; mend it and push"
_HOST_KEY = "the Git server shows another host key than the known one: find out why, then run bootstrap-flux"
_TABLE: tuple[tuple[str, str], ...] = (
    (r"sops data key|no identity matched|failed to decrypt|error decrypting|cannot decrypt", _KEY),
    (r"secrets? .*sops-age.* not found", "run bootstrap-flux: it makes Secret sops-age from git.age_key"),
    (r"secrets? .*flux-system.* not found", "run bootstrap-flux: it makes Secret flux-system from git.deploy_key"),
    (r"variable not set|substitut",
     "define it in postBuild.substitute or its substituteFrom, or give it a default: ${NAME:=value}"),
    (r"no matches for kind|could not find the requested resource|ensure CRDs are installed",
     "its kind is not installed yet: install its chart in a Kustomization that this one depends on"),
    (r"immutable", _IMMUTABLE),
    (r"accumulat|kustomize build|no such file or directory|kustomization path not found|evalsymlink", _BUILD),
    (r"yaml:|MalformedYAML|already registered id", _BUILD),
    (r"namespaces? .[a-z0-9-]+. not found", "declare the namespace in Git, in a Kustomization that comes before"),
    (r"admission webhook|denied the request|is invalid:|Invalid value",
     "correct the object as the message says, and push"),
    (r"couldn't find remote ref|reference not found|unable to (clone|find).*(branch|ref)",
     "the branch does not exist: look at git.branch of the lab file, and at gotk-sync.yaml"),
    (r"knownhosts|key mismatch|host key", _HOST_KEY),
    (r"unable to authenticate|handshake failed|authentication|permission denied|publickey",
     "add the public half of git.deploy_key to the repository's deploy keys"),
    (r"no such host|dial tcp|i/o timeout|connection refused|unreachable|connection reset",
     "the server cannot be reached from the cluster: look at its DNS, its firewall, and whether it is up"),
    (r"not found in .*index|no .*chart (name|version)|chart version|improper constraint|chart .*not found|404",
     "that chart or version does not exist in the repository: correct spec.chart.spec"),
    (r"ImagePull|ErrImage|InvalidImageName|manifest unknown",
     "the image cannot be pulled: look at its name and tag"),
    (r"CrashLoopBackOff|OOMKilled|exited", "look at its log: kubectl logs --previous"),
    (r"AttachVolume|MountVolume|not ready for workloads",
     "its volume cannot be attached: look at it in Longhorn, at its replicas and the room on the nodes' disks"),
    (r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim",
     "a volume is missing: look at the claim, at Longhorn, and at a volumeName that Git pins"),
    (r"Insufficient|didn't match|untolerated taint|nodes are available",
     "no node has room for it or may run it: look at requests, taints and node labels"),
    (r"timed out|timeout|deadline exceeded", "look at the pods that it waits for: kubectl describe"),
)  # fmt: skip


def remedy_for(message: str, default: str = "read the message; mend it in Git and push") -> str:
    """Return the remedy that most likely helps against a message."""
    return next((text for words, text in _TABLE if re.search(words, message, re.IGNORECASE)), default)

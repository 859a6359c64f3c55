"""The files that the installer brings: itself, the unit, and the scripts that undo it."""

from __future__ import annotations

from labkit.twin.k3s.places import UNITS, Role

INSTALLER_URL = "https://get.k3s.io"
MARKER = b"create_systemd_service_file()"
"""The name of a function that every version of the install script has."""
INSTALLER = """#!/bin/sh
# Stands for the install script of k3s. A guest of the twin knows it and acts it out; no other shell gains by it.
# Environment: INSTALL_K3S_VERSION INSTALL_K3S_EXEC INSTALL_K3S_SKIP_DOWNLOAD INSTALL_K3S_SKIP_START
#              INSTALL_K3S_SKIP_ENABLE INSTALL_K3S_FORCE_RESTART K3S_URL K3S_TOKEN K3S_TOKEN_FILE ...
set -e
BIN_DIR=/usr/local/bin
SYSTEMD_DIR=/etc/systemd/system

fatal() {
    echo '[ERROR] ' "$@" >&2
    exit 1
}

setup_env() {
    case "$1" in
        server|agent) CMD_K3S=$1 ;;
        *) if [ -z "${K3S_URL}" ]; then CMD_K3S=server; else CMD_K3S=agent; fi ;;
    esac
    if [ "${CMD_K3S}" = server ]; then SYSTEM_NAME=k3s; else SYSTEM_NAME=k3s-agent; fi
}

download_and_verify() {
    fatal 'Download failed'
}

create_systemd_service_file() {
    echo "[INFO]  systemd: Creating service file ${SYSTEMD_DIR}/${SYSTEM_NAME}.service"
}

service_enable_and_start() {
    systemctl enable "${SYSTEM_NAME}"
    systemctl daemon-reload
    systemctl restart "${SYSTEM_NAME}"
}

setup_env "$@"
download_and_verify
create_systemd_service_file
service_enable_and_start
"""


def binary(version: str) -> bytes:
    """Return what stands for the binary of a version; its second line is what `k3s --version` tells."""
    return f"\x7fELF: stands for the k3s binary on a guest of the twin\n{version}\n".encode("latin-1")


def unit_text(role: Role, arguments: list[str]) -> str:
    """Return the unit's file."""
    name = UNITS[role]
    words = " \\\n".join(["/usr/local/bin/k3s", f"    {role}", *(f"\t'{word}'" for word in arguments), ""])
    return f"""[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-/etc/systemd/system/{name}.service.env
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart={words}
"""


def stub(name: str) -> str:
    """Return the text of a script that the twin acts out by its name."""
    return f"#!/bin/sh\n# Stands for {name}; a guest of the twin knows it and acts it out.\n# labkit-twin: {name}\n"

"""Real messages of k3s, and what is made of them."""

from __future__ import annotations

import pytest

from labkit.facts.diagnosis import KNOWN, Evidence, explain, lasting_cause, match_causes

LINES = {
    "other-token": 'level=fatal msg="starting kubernetes: preparing server: bootstrap data already found and encrypted '
    'with different token"',
    "leftovers": 'level=fatal msg="/var/lib/rancher/k3s/server/tls/server-ca.crt newer than datastore and could cause '
    'a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore."',
    "token-form": 'level=fatal msg="Error: preparing server: failed to normalize token; must be in format '
    'K10<CA-HASH>::<USERNAME>:<PASSWORD> or <PASSWORD>"',
    "other-cluster": 'level=fatal msg="token CA hash does not match the Cluster CA certificate hash: 11 != 22"',
    "wrong-token": 'level=error msg="Failed to retrieve agent config: https://127.0.0.1:6444/v1-k3s/config: '
    '401 Unauthorized"',
    "name-taken": 'level=fatal msg="starting kubernetes: preparing server: duplicate node name found, please use a '
    'unique name for this node"',
    "password-rejected": "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may "
    "not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag",
    "critical-mismatch": 'level=fatal msg="failed to validate server configuration: critical configuration value '
    'mismatch: ClusterIPRange"',
    "removed-member": "etcd: the member has been permanently removed from the cluster",
    "port-taken": 'level=fatal msg="listen tcp :6443: bind: address already in use"',
    "disk-full": 'level=fatal msg="write /var/lib/rancher/k3s/data: no space left on device"',
    "clock": "x509: certificate has expired or is not yet valid: current time 2020-01-01T00:00:00Z is before",
    "download": "[ERROR]  Download failed",
    "no-systemd": "[ERROR]  Can not find systemd or openrc to use as a process supervisor for k3s",
    "other-ca": "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    "snapshot-path": "etcd: snapshot path does not exist: /tmp/snap",
    "snapshot-damaged": "Error: preparing server: start managed database: expected sha256 [1 2], got [3 4]",
    "reset-joins": "cannot perform cluster-reset while server URL is set - remove server from configuration",
    "was-reset": "Managed etcd cluster membership was previously reset, please remove the cluster-reset flag",
    "seed-unreachable": 'failed to get CA certs: Get "https://192.168.5.20:6443/cacerts": dial tcp: connection refused',
    "no-address": "listen tcp 192.168.5.99:10250: bind: cannot assign requested address",
    "etcd-busy": "etcdserver: unhealthy cluster",
    "no-network": "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady",
}


def test_every_known_cause_has_its_message() -> None:
    assert set(LINES) == set(KNOWN)


@pytest.mark.parametrize("name", LINES)
def test_the_message_gives_the_cause(name: str) -> None:
    causes = match_causes(f"starting\n{LINES[name]}\n")
    assert causes[0].id == name
    assert causes[0].seen.startswith("the log: ")
    assert causes[0].remedy


def test_a_quiet_log_gives_none() -> None:
    assert match_causes('level=info msg="Starting k3s v1.33.4+k3s1"') == ()


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(same_token=False), "wrong-token"),
        (Evidence(clock_offset=-90.0), "clock"),
        (Evidence(disk_free=1024), "disk-full"),
        (Evidence(clash="192.168.5.50, inside 192.168.5.50-192.168.5.59"), "address-clash"),
        (Evidence(seed="192.168.5.20:6443", seed_reachable=False), "seed-unreachable"),
        (Evidence(answered=False), "node-away"),
    ],
)
def test_what_was_measured_gives_the_cause_without_a_log(evidence: Evidence, expected: str) -> None:
    assert [cause.id for cause in match_causes("", evidence)] == [expected]


def test_what_is_right_gives_none() -> None:
    well = Evidence(unit="active", seed="a:6443", seed_reachable=True, seed_running=True, same_token=True,
                    clock_offset=0.4, disk_free=1 << 33)  # fmt: skip
    assert match_causes("", well) == ()


def test_a_seed_that_does_not_run_is_told_apart_from_a_firewall() -> None:
    def remedy(running: bool) -> str:
        return match_causes("", Evidence(seed="a:6443", seed_reachable=False, seed_running=running))[0].remedy

    assert "does not run there" in remedy(running=False)
    assert "firewalls" in remedy(running=True)


def test_what_was_measured_stands_first_and_each_cause_once() -> None:
    causes = match_causes(LINES["wrong-token"] + "\n" + LINES["etcd-busy"], Evidence(same_token=False))
    assert [cause.id for cause in causes] == ["wrong-token", "etcd-busy"]


def test_an_unknown_reason_shows_the_end_of_the_log() -> None:
    text = explain("n1", "one\ntwo\n", Evidence(unit="activating"))
    assert "activating" in text
    assert "two" in text
    assert "console" in explain("n1", "", Evidence())


def test_only_what_comes_again_and_will_not_mend_ends_the_waiting() -> None:
    assert lasting_cause(LINES["other-token"]) is None
    cause = lasting_cause("\n".join([LINES["other-token"]] * 2))
    assert cause is not None
    assert cause.id == "other-token"
    assert lasting_cause("\n".join([LINES["etcd-busy"]] * 9)) is None

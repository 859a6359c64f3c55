"""cert-manager with real certificates, reflector, MetalLB."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from labkit.twin.charts.certificates import CERTIFICATES, REQUESTS
from labkit.twin.kube.door import Object

from .conftest import Lab, condition

CRDS = {"crds": {"enabled": True}}
PREFIX = "reflector.v1.k8s.emberstack.com/"


def issuer(**spec: Any) -> Object:
    return {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": "ours"}, "spec": spec}


def certificate(**spec: Any) -> Object:
    body = {"secretName": "tls", "issuerRef": {"kind": "ClusterIssuer", "name": "ours"},
            "dnsNames": ["lab.net", "*.lab.net"], **spec}  # fmt: skip
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "spec": body,
            "metadata": {"name": "wildcard", "namespace": "default"}}  # fmt: skip


def served(lab: Lab) -> list[x509.Certificate]:
    secret = lab.get("secrets", "tls")
    return x509.load_pem_x509_certificates(base64.b64decode(secret["data"]["tls.crt"])) if secret else []


def is_ready(lab: Lab) -> bool:
    return condition(lab.get(CERTIFICATES, "wildcard"), "Ready") == ("True", "Ready")


def test_a_certificate_is_issued_renewed_and_issued_again(lab) -> None:
    async def story() -> None:
        async with lab() as one:
            await one.install("cert-manager", "1.21.1", CRDS)
            key, template = {"algorithm": "ECDSA", "size": 256}, {"annotations": {"a": "b"}}
            one.apply(issuer(selfSigned={}), certificate(privateKey=key, secretTemplate=template))
            await one.until(lambda: is_ready(one))
            leaf, authority = served(one)
            leaf.verify_directly_issued_by(authority)
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert names.get_values_for_type(x509.DNSName) == ["lab.net", "*.lab.net"]
            assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=90)
            assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
            secret, state = one.get("secrets", "tls"), one.get(CERTIFICATES, "wildcard")["status"]
            assert secret["type"] == "kubernetes.io/tls"
            assert secret["metadata"]["annotations"]["a"] == "b"
            assert secret["metadata"]["annotations"]["cert-manager.io/issuer-name"] == "ours"
            assert state["revision"] == 1
            assert state["notAfter"] == leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
            assert condition(one.get(REQUESTS, "wildcard-1"), "Ready") == ("True", "Issued")
            one.apply(certificate(dnsNames=["other.net"]))
            await one.until(lambda: one.get(CERTIFICATES, "wildcard")["status"].get("revision") == 2 and is_ready(one))
            one.api.delete("secrets", "tls", "default")
            await one.until(lambda: len(served(one)) == 2 and is_ready(one))
            manual = {"status": {"conditions": [{
                "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}  # fmt: skip
            serial = served(one)[0].serial_number
            one.api.patch(CERTIFICATES, "wildcard", manual, "default", subresource="status")
            await one.until(lambda: served(one)[0].serial_number != serial and is_ready(one))

    asyncio.run(story())


def test_a_restored_secret_is_adopted(lab) -> None:
    async def story() -> None:
        async with lab() as one:
            issued = one.issuer.issue(["lab.net", "*.lab.net"], 60)
            texts = {"tls.crt": issued.chain, "tls.key": issued.key}
            data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
            notes = {"cert-manager.io/issuer-name": "ours", "cert-manager.io/issuer-kind": "ClusterIssuer"}
            meta = {"name": "tls", "namespace": "default", "annotations": notes}
            one.api.create("secrets", {"metadata": meta, "type": "kubernetes.io/tls", "data": data})
            await one.install("cert-manager", "1.21.1", CRDS)
            one.apply(issuer(selfSigned={}), certificate())
            await one.until(lambda: is_ready(one))
            assert one.get("secrets", "tls")["data"] == data
            assert "revision" not in one.get(CERTIFICATES, "wildcard")["status"]

    asyncio.run(story())


def test_a_challenge_without_its_token_waits(lab) -> None:
    async def story() -> None:
        async with lab() as one:
            await one.install("cert-manager", "1.21.1", CRDS)
            ref = {"name": "token", "key": "api-token"}
            solver = {"dns01": {"cloudflare": {"apiTokenSecretRef": ref}}}
            acme = {"server": "https://acme.example/directory", "privateKeySecretRef": {"name": "account"},
                    "solvers": [solver]}  # fmt: skip
            one.apply(issuer(acme=acme), certificate())
            await one.until(lambda: condition(one.get(REQUESTS, "wildcard-1"), "Ready") == ("False", "Pending"))
            assert condition(one.get(CERTIFICATES, "wildcard"), "Ready") == ("False", "DoesNotExist")
            assert one.get("secrets", "account", "cert-manager") is not None
            body = {"metadata": {"name": "token", "namespace": "cert-manager"}, "data": {"api-token": "eA=="}}
            one.api.create("secrets", body)
            await one.until(lambda: is_ready(one))

    asyncio.run(story())


def test_mirrors_follow_their_source(lab) -> None:
    async def story() -> None:
        async with lab() as one:
            await one.install("reflector", "10.0.63")
            for name in ("a-1", "b"):
                one.api.create("namespaces", {"metadata": {"name": name}})
            words = {"allowed": "true", "allowed-namespaces": "a-.*,b", "auto-enabled": "true",
                     "auto-namespaces": "a-.*"}  # fmt: skip
            notes = {f"{PREFIX}reflection-{word}": text for word, text in words.items()}
            meta = {"name": "tls", "namespace": "default", "annotations": notes}
            one.api.create("secrets", {"metadata": meta, "data": {"k": "MQ=="}})
            by_hand = {"name": "own", "namespace": "b", "annotations": {f"{PREFIX}reflects": "default/tls"}}
            one.api.create("secrets", {"metadata": by_hand})
            await one.until(lambda: one.get("secrets", "tls", "a-1") and one.get("secrets", "own", "b").get("data"))
            assert one.get("secrets", "tls", "b") is None
            one.api.create("namespaces", {"metadata": {"name": "a-2"}})
            await one.until(lambda: one.get("secrets", "tls", "a-2"))
            one.api.patch("secrets", "tls", {"data": {"k": "Mg=="}}, "default")
            await one.until(lambda: {one.get("secrets", name, space)["data"]["k"] for name, space in (
                ("tls", "a-1"), ("tls", "a-2"), ("own", "b"))} == {"Mg=="})  # fmt: skip
            source = one.get("secrets", "tls")["metadata"]["resourceVersion"]
            assert one.get("secrets", "tls", "a-1")["metadata"]["annotations"][f"{PREFIX}reflected-version"] == source
            one.api.delete("secrets", "tls", "default")
            await one.until(lambda: one.get("secrets", "tls", "a-1") is None)
            assert one.get("secrets", "own", "b") is not None

    asyncio.run(story())


@pytest.mark.parametrize(
    ("notes", "address"),
    [({}, "192.168.5.50"), ({"metallb.io/loadBalancerIPs": "192.168.5.52"}, "192.168.5.52"),
     ({"metallb.io/address-pool": "other"}, "10.9.9.1")],
)  # fmt: skip
def test_services_get_addresses_out_of_pools(lab, notes: dict[str, str], address: str) -> None:
    async def story() -> None:
        async with lab() as one:
            spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
            one.api.create("services", {"metadata": {"name": "s", "namespace": "default", "annotations": notes},
                                        "spec": spec})  # fmt: skip
            await one.install("metallb", "0.16.1")
            for name, text, auto in (("lan", "192.168.5.50-192.168.5.52", True), ("other", "10.9.9.1/32", False)):
                one.apply({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
                           "metadata": {"name": name, "namespace": "metallb"},
                           "spec": {"addresses": [text], "autoAssign": auto}})  # fmt: skip
            status = await one.until(lambda: one.get("services", "s")["status"]["loadBalancer"].get("ingress"))
            assert [item["ip"] for item in status] == [address]
            pool = "other" if address.startswith("10.") else "lan"
            held = await one.until(lambda: one.get("ipaddresspools.metallb.io", pool, "metallb").get("status"))
            assert held["assignedIPv4"] == 1

    asyncio.run(story())

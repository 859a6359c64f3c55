from __future__ import annotations

import threading
from pathlib import Path

from labkit.systems.known_hosts import forget_host, read_host_keys, store_host_keys


def test_store_replace_forget(tmp_path: Path) -> None:
    path = tmp_path / "state" / "known_hosts"
    assert read_host_keys(path, "m1") == ()
    store_host_keys(path, ("m1", "192.168.5.20"), ("ssh-ed25519 AAAA root@m1",))
    store_host_keys(path, ("m2", "192.168.5.21"), ("ssh-ed25519 BBBB", "ssh-rsa CCCC"))
    assert read_host_keys(path, "m1") == ("ssh-ed25519 AAAA",)
    assert read_host_keys(path, "192.168.5.21") == ("ssh-ed25519 BBBB", "ssh-rsa CCCC")
    store_host_keys(path, ("m1", "192.168.5.21"), ("ssh-ed25519 DDDD",))  # took over the address of m2
    assert read_host_keys(path, "m2") == ()
    assert path.read_text() == "m1,192.168.5.21 ssh-ed25519 DDDD\n"
    forget_host(path, ("m1",))
    assert path.read_text() == ""


def test_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    threads = [
        threading.Thread(target=store_host_keys, args=(path, (f"m{n}",), (f"ssh-ed25519 K{n}",))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(path.read_text().splitlines()) == 20
    assert list(tmp_path.iterdir()) == [path]

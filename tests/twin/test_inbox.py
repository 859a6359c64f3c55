"""Who gets a twin's messages: what a report tells arrives on loopback, with its page."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx

from labkit.lab import load_lab
from labkit.plan import Finding, Severity
from labkit.run.connect import connect
from labkit.run.notify import notify

LAB = Path(__file__).parents[1] / "data" / "e2e" / "lab.yaml"


def test_what_is_told_on_a_twin_stays_on_it(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(LAB.read_text() + "messages: {to: [env:NTFY_URL, file:mail-url]}\n")
    lab = load_lab(file)
    page = tmp_path / "report.html"
    page.write_text("<p>all is well</p>")
    finding = Finding(id="a", severity=Severity.ERROR, subject="host north", expected="online", got="offline")
    connection = connect(lab, file, on="twin", scenario="empty")
    try:
        sent = notify(lab, connection.access, (), (finding,), title="small", html=page)
        assert [one.problem for one in sent.deliveries] == ["", ""]
        inbox = connection.access.state.parent / "inbox.jsonl"
        rows = [json.loads(line) for line in inbox.read_text().splitlines()]
        url = connection.access.secrets.resolve("env:NTFY_URL")
        stranger = url.replace("json://", "http://").partition("@")[2]
        assert httpx.post(f"http://{stranger}", json={}, trust_env=False).status_code == 401
    finally:
        connection.close()
    assert sorted(row["to"] for row in rows) == ["env:NTFY_URL", "file:mail-url"]
    assert {row["title"] for row in rows} == {"small: 1 worse"}
    assert base64.b64decode(rows[0]["attachments"][0]["base64"]) == page.read_bytes()

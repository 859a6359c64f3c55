"""Send one message to one place: a program of its own, so that it can be ended and what it logs stays in it.

Reads `{"url", "title", "body", "attach"}` as JSON from standard input, so that no URL stands in a process list, and
writes `{"ok", "service", "attached", "said"}`. `said` may hold parts of the URL: whoever reads it must hide them.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any


class _Kept(logging.Handler):
    """Keep what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def send(order: dict[str, Any]) -> dict[str, Any]:
    """Send the message; return whether the service took it and what apprise logged."""
    kept = _Kept()
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.addHandler(kept)
    import apprise  # noqa: PLC0415  # its own loggers are made when it is imported

    asset = apprise.AppriseAsset(app_id="labkit", app_desc="labkit", async_mode=False)
    plugin = apprise.Apprise.instantiate(order["url"], asset=asset)
    if plugin is None:
        return {"ok": False, "service": "", "attached": False, "said": "no URL that apprise knows"}
    attach = order.get("attach") if plugin.attachment_support else None
    ok = bool(plugin.notify(body=order["body"], title=order["title"], attach=attach, body_format="text"))
    return {"ok": ok, "service": str(plugin.service_name), "attached": bool(attach), "said": "; ".join(kept.lines)}


def main() -> None:
    """Send what standard input says."""
    answer = send(json.load(sys.stdin))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()

"""URLs of backup targets and backups."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

from labkit.twin.nas.exports import plain


def backup_url(target: str, backup: str, volume: str) -> str:
    """Return the URL of a backup; what the target's URL has behind `?` is lost, as in Longhorn."""
    return f"{plain(target)}?backup={quote(backup)}&volume={quote(volume)}"


def read_backup_url(url: str) -> tuple[str, str, str]:
    """Return target, backup and volume of a URL; empty texts for what it does not have."""
    query = parse_qs(urlsplit(url).query)
    return url.partition("?")[0], (query.get("backup") or [""])[0], (query.get("volume") or [""])[0]

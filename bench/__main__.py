"""Print every figure: `python -m bench [PART]...`; exit status 1 when a limit is missed."""

from __future__ import annotations

import sys
from importlib import import_module

PARTS = ("command", "provision", "backups", "k3s", "recovery", "kube", "repository", "gitops", "health")


def main() -> int:
    """Run the named parts, or all, and print their figures as they come."""
    named = sys.argv[1:] or PARTS
    unknown = set(named) - set(PARTS)
    if unknown:
        print(f"expected parts among {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
        return 2
    missed = 0
    for part in named:
        print(f"── {part}", flush=True)
        for figure in import_module(f"bench.{part}").figures():
            print(figure, flush=True)
            missed += not figure.ok
    print(f"{missed} figures miss their limit" if missed else "every figure keeps its limit")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

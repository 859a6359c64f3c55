"""Become another program that dies with its parent, however the parent dies.

Run as a file, with the standard library only, so that it starts quickly: `python -I launch.py PARENT ARG...`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for SIGKILL at the parent's death, then become the program."""
    parent, *words = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == int(parent):  # else it died before we asked
        os.execv(words[0], words)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()

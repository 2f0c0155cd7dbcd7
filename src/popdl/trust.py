"""Asking the person at the terminal whether the code that a model carries may run."""

from __future__ import annotations

import logging
import sys

from popdl.plugins import Carried, Trust

__all__ = ["asking"]

log = logging.getLogger("popdl")


def asking(*, trusted: bool) -> Trust:
    """Trust what the user has said to trust beforehand, and ask about the rest on a terminal.

    Parameters
    ----------
    trusted
        Whether the user has said so already (``--trust-plugin``).
    """

    def trust(part: Carried) -> bool:
        # As repr: a name from a file could hold characters that hide the rest of the line.
        shown = f"{part.file!r} (SHA-256 {part.sha256})"
        if trusted:
            log.info("Running code of the model's author: %s.", shown)
            return True
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        print(
            f"The model carries code of its author, {shown}, {len(part.source.splitlines())} lines.\n"
            "It would run with your rights. `popdl card MODEL --source` shows it. Run it? [y/N] ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return trust

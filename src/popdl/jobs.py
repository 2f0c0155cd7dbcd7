"""What surrounds a step wherever it runs: a log, and a refusal without a traceback."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popdl.errors import PopdlError

__all__ = ["step"]

INTERRUPTED = 130
"""What a shell says of a process that Ctrl-C has ended."""


@contextmanager
def step(log: str | Path | None = None, *, debug: bool = False) -> Iterator[None]:
    """Run a step: log to standard error and a file; a :class:`PopdlError` is printed, and ends the process with code 2.

    Parameters
    ----------
    log
        A file that is written anew.
    debug
        Show the traceback of a refusal, and debugging messages.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    first = not any(int(os.environ.get(name, "0")) for name in ("LOCAL_RANK", "NODE_RANK"))
    if log is not None and first:  # others that train beside have no log of their own
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w", encoding="utf-8"))
    logging.basicConfig(
        level=logging.WARNING,  # msprime and others tell much at INFO
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=handlers,
        force=True,
    )
    logging.getLogger("popdl").setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        yield
    except PopdlError as error:
        logging.getLogger("popdl").error("%s", error, exc_info=debug)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        logging.getLogger("popdl").error(
            "interrupted; run the same again: what is finished stays, and a training goes on."
        )
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        logging.getLogger("popdl").error("%s%s.", where, error.strerror or error, exc_info=debug)
        raise SystemExit(2) from None

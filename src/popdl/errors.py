"""The exceptions that mean "the user can mend this"."""

__all__ = ["DivergedError", "PopdlError"]


class PopdlError(Exception):
    """Bad input: a config, a file or a request that popdl refuses.

    The message stands alone: it names the file, line or key, what was found, what was expected and what to do.
    Command line and workflow scripts print it without a traceback and exit with code 2.
    """


class DivergedError(PopdlError):
    """A training whose loss is no longer a finite number: its settings are at fault, and in a search others may do better."""

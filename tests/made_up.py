"""The simulator of the fabricated study: a file of the user's own, which never simulates."""

from __future__ import annotations

from popdl.simulators._base import Simulator


class MadeUp(Simulator):
    needs = ("recent_size", "event_time", "change")

"""Write positions in another style than the encoding does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import Generator

from popdl.transforms._base import Examples, Form, Transform
from popdl.transforms._operations import from_bp, to_bp

__all__ = ["Reformat"]


class Reformat(Transform):
    """Write positions in another style.

    The first distance is then that from the start of the window. From distances, places are counted from the usable site
    before the first one in the array, which is the start of the window unless sites were cut from its left.
    """

    takes_frequencies = True

    class Settings(Transform.Settings):
        to: Literal["absolute", "relative", "distance"]
        """bp from the start of the window, that as a fraction of the window, or bp since the previous site."""

    def __init__(self, settings: Any, form: Form) -> None:
        super().__init__(settings, form)
        form.need_positions()

    @property
    def after(self) -> Form:
        return replace(self.form, positions=self.settings.to)

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        assert examples.positions is not None
        bp = to_bp(examples.positions, self.form)
        return replace(examples, positions=from_bp(bp, examples.mask, self.after))

"""Parameters that choose among words which a simulator knows."""

from __future__ import annotations

from collections.abc import Collection

from popdl.config.base import suggestion
from popdl.priors import Prior

__all__ = ["check_words"]


def check_words(name: str, prior: Prior, known: Collection[str]) -> None:
    """Refuse a prior that is no choice among the known words, with a ValueError."""
    if not prior.classes or not isinstance(prior.arguments[0], str):  # type: ignore[index]
        raise ValueError(f"parameters.{name}: expected a choice among words, e.g. {{choice: [{', '.join(known)}]}}")
    for word in prior.classes:
        if word not in known:
            raise ValueError(f"parameters.{name}: {word!r} means nothing here; {suggestion(word, known)}")

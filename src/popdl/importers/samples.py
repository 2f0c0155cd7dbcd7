"""Which individuals of a VCF are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from popdl import seeds
from popdl.config.application import Samples
from popdl.config.base import suggestion
from popdl.errors import PopdlError

__all__ = ["choose_samples"]


def choose_samples(settings: Samples | None, available: Sequence[str], *, seed: int, path: Path) -> list[str]:
    """Return the names of the individuals to use.

    Parameters
    ----------
    settings
        The ``samples:`` section; None for all individuals.
    available
        Individuals of the VCF.
    seed
        The study's seed, from which ``number`` individuals are drawn.
    path
        The VCF, for messages.

    Returns
    -------
    list of str
        In the order of ``names`` or ``file`` where those are given, else in the order of the VCF.

    Raises
    ------
    PopdlError
        If a name is unknown or given twice, a population is empty, or there are fewer than ``number``.
    """
    if settings is None:
        return list(available)
    if settings.panel is not None:
        where = f"{settings.panel}: {settings.column} {settings.population!r}"
        wanted = _population(settings)
    elif settings.file is not None:
        where = str(settings.file)
        wanted = [line.strip() for line in _lines(settings.file) if line.strip()]
    elif settings.names is not None:
        where = "samples.names"
        wanted = settings.names
    else:
        where = str(path)
        wanted = list(available)
    if not wanted:
        raise PopdlError(f"{where}: names no samples; name at least one.")
    repeated = [name for name, count in Counter(wanted).items() if count > 1]
    if repeated:
        raise PopdlError(f"{where}: the sample {repeated[0]!r} is named twice; name each once.")
    in_file = set(available)
    unknown = [name for name in wanted if name not in in_file]
    if unknown:
        hint = (
            suggestion(unknown[0], available)
            if len(available) <= 30
            else f"it has {len(available)}, e.g. {available[0]}"
        )
        raise PopdlError(
            f"{where}: {len(unknown)} of {len(wanted)} samples are not in {path}, e.g. {', '.join(unknown[:3])}; {hint}."
        )
    if settings.panel is not None:
        chosen = set(wanted)
        wanted = [name for name in available if name in chosen]
    if settings.number is None:
        return wanted
    if settings.number > len(wanted):
        raise PopdlError(f"{where}: {len(wanted)} samples, but samples.number asks for {settings.number}; lower it.")
    drawn = seeds.generator(seed, "samples").choice(len(wanted), size=settings.number, replace=False)
    return [wanted[index] for index in sorted(drawn)]


def _population(settings: Samples) -> list[str]:
    """Samples of the panel that are in the population."""
    assert settings.panel is not None
    lines = [line for line in _lines(settings.panel) if line.strip()]
    if not lines:
        raise PopdlError(f"{settings.panel}: the panel is empty; expected a header and one line per sample.")
    separator = next((mark for mark in "\t," if mark in lines[0]), None)
    rows = [[item.strip() for item in line.split(separator)] for line in lines]
    columns = rows[0]
    if settings.column not in columns[1:]:
        raise PopdlError(
            f"{settings.panel}: there is no column {settings.column!r}; {suggestion(settings.column, columns[1:])}."
        )
    index = columns.index(settings.column)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) <= index:
            raise PopdlError(f"{settings.panel}, line {number}: {len(row)} columns, expected {len(columns)}.")
    assert settings.population is not None
    found = [row[0] for row in rows[1:] if row[index] == settings.population]
    if not found:
        known = {row[index] for row in rows[1:]}
        raise PopdlError(
            f"{settings.panel}: no sample has {settings.column} {settings.population!r}; "
            f"{suggestion(settings.population, known)}."
        )
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PopdlError(f"{path}: cannot read the samples: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise PopdlError(f"{path}: not a text file; expected sample names.") from None

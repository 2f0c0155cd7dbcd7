"""Reading genetic maps, and drawing rates out of them."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from pathlib import Path

import msprime
import numpy as np

from popdl.errors import PopdlError
from popdl.genome_builds import other_name

__all__ = ["random_rate", "read_hapmap"]


def read_hapmap(path: Path, *, contig: str | None = None) -> msprime.RateMap:
    """Read a map in HapMap format.

    Parameters
    ----------
    contig
        The contig that it must be of, with or without ``chr`` (None: its name is not looked at).

    Raises
    ------
    PopdlError
        If the file cannot be read, is not such a map, or is of another contig.
    """
    try:
        content = path.read_bytes()
        lines = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().splitlines()
        if len(lines) < 2:
            raise ValueError(f"it has {len(lines)} lines")
        has_header = not lines[0].split()[1].isdecimal()
        names = {line.split(maxsplit=1)[0] for line in lines[has_header:] if line.strip()}
        if contig is not None and names - {contig, other_name(contig)}:
            raise PopdlError(
                f"{path}: the recombination map is of {', '.join(sorted(names))}, but the genome is of {contig}; "
                "give the map of that chromosome."
            )
        return msprime.RateMap.read_hapmap(lines, has_header=has_header)
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, IndexError, EOFError, zlib.error) as error:
        reason = str(error)
    raise PopdlError(
        f"{path}: cannot read the recombination map: {reason}; "
        "expected HapMap format: chromosome, position (bp), rate (cM/Mb), map (cM), for one chromosome in order."
    )


def random_rate(path: Path, generator: np.random.Generator) -> float:
    """The rate, per bp per generation, at a random place of a map; places without recombination are left out.

    This is the prior of background rates in Chan et al. (2018, NeurIPS 31).
    """
    rates, up_to = _rates(path)
    return float(rates[np.searchsorted(up_to, generator.uniform(0, up_to[-1]), side="right")])


@lru_cache(maxsize=4)
def _rates(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positive rates of a map, and the length in bp from the first of them to the end of each."""
    rate_map = read_hapmap(path)
    positive = np.nan_to_num(rate_map.rate) > 0
    if not positive.any():
        raise PopdlError(f"{path}: no rate of the recombination map is above 0; use another map.")
    return rate_map.rate[positive], np.cumsum(rate_map.span[positive])

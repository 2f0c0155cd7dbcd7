"""Data sets of dnadna: one npz file for each replicate of each scenario, and a CSV of parameters."""

from __future__ import annotations

import re
import string
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from pydantic import Field, field_validator

from popdl.config.base import Section
from popdl.errors import PopdlError
from popdl.formats._base import Importer, LabelledExample, Survey
from popdl.formats._tables import Table
from popdl.simulators._base import Example

__all__ = ["Dnadna", "PositionFormat"]

SCENARIO = "scenario_idx"
"""The column of the parameters that numbers the scenarios."""
ROUNDING = 1e-3
"""Share of the window by which sums of distances, often stored in half precision or less, may miss its length."""


class PositionFormat(Section):
    """How dnadna wrote positions, as in the `position_format` of its data set's config."""

    distance: bool = False
    """Each number is the distance from the previous site (true), or the position itself (false)."""
    normalized: bool = True
    """Numbers are fractions of the window (true), or bp (false)."""
    circular: bool = False
    """With `distance`: the first number is the distance from the last site, round a circular genome."""
    initial_position: float = Field(default=0.0, ge=0)
    """With `circular`: the position of the first site, in the unit of the others."""


class Dnadna(Importer):
    """Data sets of dnadna: one npz file for each replicate, and a CSV of parameters with the column `scenario_idx`.
    Scenarios are taken in the order of the CSV, replicates in that of their numbers."""

    folder: Path
    """dnadna's `data_root`: the folder of the data set."""
    dataset_name: str = Field(min_length=1)
    """dnadna's `dataset_name`."""
    filename: str = "scenario_{scenario}/{dataset_name}_{scenario}_{replicate}.npz"
    """dnadna's `filename_format`. How many zeros stand before numbers is found out."""
    keys: tuple[str, str] = ("SNP", "POS")
    """Names of the matrix (haplotypes × sites) and of the positions in each npz file."""
    position_format: PositionFormat = PositionFormat()
    """How positions are written."""

    sources = ("column",)

    @field_validator("filename")
    @classmethod
    def _check_filename(cls, filename: str) -> str:
        fields = {field for _, field, _, _ in string.Formatter().parse(filename) if field is not None}
        if unknown := fields - {"scenario", "replicate", "dataset_name", "name"}:
            raise ValueError(f"expected {{scenario}}, {{replicate}} and {{dataset_name}}, found {sorted(unknown)}")
        if not {"scenario", "replicate"} <= fields:
            raise ValueError("must tell scenarios and replicates apart by {scenario} and {replicate}")
        return filename

    def read_table(self) -> Table:
        table = super().read_table()
        table.need([SCENARIO])
        return table

    def survey(self) -> Survey:
        table = self.read_table()
        scenarios = _scenarios(table)
        found, widths = self._find()
        if not found:
            raise PopdlError(
                f"{self.folder}: no file is named like {self.filename}; correct `filename` or `dataset_name`."
            )
        known = set(scenarios)
        numbers = [sorted(found.get(scenario, [])) for scenario in scenarios]
        short = [index for index, replicates in enumerate(numbers) if len(replicates) < self.replicates]
        if short:
            raise PopdlError(
                f"{self.folder}: {len(short)} of {len(scenarios)} scenarios have fewer than {self.replicates} files "
                f"(import.replicates), the first is scenario {scenarios[short[0]]} with {len(numbers[short[0]])}; "
                f"lower replicates, or take their rows out of {table.path}."
            )
        left_out = {
            "files_of_scenarios_that_are_not_in_the_table": sum(
                len(replicates) for scenario, replicates in found.items() if scenario not in known
            ),
            "files_beyond_the_number_of_replicates": sum(len(replicates) - self.replicates for replicates in numbers),
        }
        return {
            "num_scenarios": len(scenarios),
            "left_out": {reason: count for reason, count in left_out.items() if count},
            "widths": widths,
            "scenarios": scenarios,
            "replicates": [replicates[: self.replicates] for replicates in numbers],
        }

    def examples(self, survey: Survey, first: int, last: int, *, seed: int) -> Iterator[LabelledExample]:
        table = self.read_table()
        if _scenarios(table) != survey["scenarios"]:
            raise PopdlError(f"{table.path}: its scenarios have changed since the data was looked at; import anew.")
        for example in range(first, last):
            row, replicate = divmod(example, self.replicates)
            path = self.folder / self._name(
                survey["scenarios"][row], survey["replicates"][row][replicate], survey["widths"]
            )
            genotypes, positions = _read(path, self.keys, num_haplotypes=self.num_haplotypes)
            positions = _in_bp(positions, self.position_format, self.sequence_length, where=str(path))
            if self.position_format.circular:  # what lies beyond the end goes on at the start
                order = np.argsort(positions, kind="stable")
                genotypes, positions = genotypes[order], positions[order]
            yield LabelledExample(Example(genotypes, positions), self.table_labels(table, row), str(path))

    def _name(self, scenario: int, replicate: int, widths: dict[str, int]) -> str:
        values = {
            "scenario": f"{scenario:0{widths['scenario']}d}",
            "replicate": f"{replicate:0{widths['replicate']}d}",
            **dict.fromkeys(("dataset_name", "name"), self.dataset_name),
        }
        parts = string.Formatter().parse(self.filename)
        return "".join(text + (values[field] if field is not None else "") for text, field, _, _ in parts)

    def _find(self) -> tuple[dict[int, list[int]], dict[str, int]]:
        """Replicates of each scenario that have a file, and to how many digits their numbers are filled with zeros."""
        pattern, wanted, seen = "", "", set()
        for text, field, _, _ in string.Formatter().parse(self.filename):
            pattern += re.escape(text)
            wanted += _literal(text)
            if field in ("scenario", "replicate"):
                pattern += f"(?P={field})" if field in seen else rf"(?P<{field}>\d+)"
                wanted += "*"
                seen.add(field)
            elif field is not None:
                pattern += re.escape(self.dataset_name)
                wanted += _literal(self.dataset_name)
        if not self.folder.is_dir():
            raise PopdlError(
                f"{self.folder}: there is no such folder; give the data set's `data_root` as import.folder."
            )
        matches = [
            match
            for path in self.folder.glob(wanted)
            if (match := re.fullmatch(pattern, path.relative_to(self.folder).as_posix()))
        ]
        widths = {
            field: min((len(match[field]) for match in matches), default=1) for field in ("scenario", "replicate")
        }
        found: dict[int, list[int]] = {}
        for match in matches:
            scenario, replicate = int(match["scenario"]), int(match["replicate"])
            if self._name(scenario, replicate, widths) != match[0]:
                raise PopdlError(
                    f"{self.folder}: {match[0]} and {self._name(scenario, replicate, widths)}: numbers are filled with zeros in "
                    "different ways; rename the files."
                )
            found.setdefault(scenario, []).append(replicate)
        return found, widths


def _literal(text: str) -> str:
    """Text in a glob pattern that means itself."""
    return re.sub(r"([*?[])", r"[\1]", text)


def _scenarios(table: Table) -> list[int]:
    scenarios: list[int] = []
    for row, word in enumerate(table.columns[SCENARIO]):
        number = word.removesuffix(".0")
        if not (number.isascii() and number.isdigit()):
            raise PopdlError(f"{table.where(row)}: {SCENARIO} is {word!r}, expected a whole number.")
        scenarios.append(int(number))
    if len(set(scenarios)) < len(scenarios):
        twice = next(number for number in scenarios if scenarios.count(number) > 1)
        raise PopdlError(f"{table.path}: scenario {twice} is there twice; give each scenario one row.")
    return scenarios


def _read(path: Path, keys: tuple[str, str], *, num_haplotypes: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (sites × haplotypes) and positions as they stand in the file; shapes are checked before anything is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            (snp, snp_type), (pos, _) = (_declared(archive, key, path) for key in keys)
            if len(snp) != 2 or snp[0] != num_haplotypes or snp_type.kind not in "biu":
                raise PopdlError(
                    f"{path}: {keys[0]} is {snp_type} of shape {snp}, expected whole numbers of shape ({num_haplotypes}, sites) "
                    "for (import.num_haplotypes, sites)."
                )
            if pos != snp[1:]:
                raise PopdlError(f"{path}: {keys[1]} has shape {pos}, expected ({snp[1]},): a position for each site.")
        with np.load(path, allow_pickle=False) as arrays:
            genotypes, positions = arrays[keys[0]], arrays[keys[1]]
    except FileNotFoundError:
        raise PopdlError(f"{path}: this file is gone since the data was looked at; import anew.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise PopdlError(f"{path}: not a whole npz file: {error}.") from None
    if genotypes.size and not -1 <= genotypes.min() <= genotypes.max() <= np.iinfo(np.int8).max:
        raise PopdlError(
            f"{path}: {keys[0]} holds values from {genotypes.min()} to {genotypes.max()}, expected 0, 1, … or −1 for missing."
        )
    return np.ascontiguousarray(genotypes.T.astype(np.int8)), positions.astype(np.float64)


def _declared(archive: zipfile.ZipFile, key: str, path: Path) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an array, from its header alone; an archive that says another size of it is refused."""
    name = f"{key}.npy"
    if name not in archive.namelist():
        known = ", ".join(member.removesuffix(".npy") for member in archive.namelist()[:10])
        raise PopdlError(f"{path}: there is no array {key!r} (import.keys); it holds {known}.")
    with archive.open(name) as file:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(file)
        size = file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject or size != archive.getinfo(name).file_size:
        raise PopdlError(f"{path}: {key} is not a plain array of the size that the file says; the file is damaged.")
    return shape, dtype


def _in_bp(positions: np.ndarray, given: PositionFormat, sequence_length: float, *, where: str) -> np.ndarray:
    """Positions in bp from the start of the window."""
    whole = 1.0 if given.normalized else sequence_length
    if not np.isfinite(positions).all() or (positions < 0).any():
        raise PopdlError(f"{where}: positions must be numbers from 0 on; found others.")
    if not given.normalized and len(positions) > 1 and positions.max() <= 1:
        raise PopdlError(
            f"{where}: no position is above 1, so they are fractions; set position_format: {{normalized: true}}."
        )
    if given.distance:
        if given.circular and len(positions):
            if abs(positions.sum() - whole) > ROUNDING * whole:
                raise PopdlError(
                    f"{where}: distances add up to {positions.sum():g}, expected {whole:g}, once round the genome; "
                    "correct position_format or sequence_length."
                )
            positions = positions.copy()
            positions[0] = given.initial_position
        positions = np.cumsum(positions)
        if given.circular:
            positions %= whole
    if len(positions) and positions.max() > whole * (1 + given.distance * ROUNDING):
        raise PopdlError(
            f"{where}: positions reach {positions.max():g}, beyond the window's end at {whole:g}; "
            "correct position_format or sequence_length."
        )
    return np.minimum(positions * (sequence_length / whole), sequence_length)

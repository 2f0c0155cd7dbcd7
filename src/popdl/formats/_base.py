"""What every importer has: the `import:` section is an instance of one of these classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from popdl.config.base import Section, suggestion
from popdl.errors import PopdlError
from popdl.formats._files import expand
from popdl.formats._tables import Table, read_table
from popdl.priors import Prior
from popdl.simulators._base import Example

__all__ = ["FileImporter", "Importer", "Label", "LabelledExample", "Survey"]

FILE = "file"
"""The column of a table that names files."""
Survey = dict[str, Any]
"""What an importer found when it looked at all of its data once, as plain JSON values. Every survey has `num_scenarios`;
`left_out` counts, by reason, what the files hold and is not imported."""


@dataclass(frozen=True)
class LabelledExample:
    """One example as it was found, with a value for each parameter."""

    example: Example
    labels: dict[str, float]
    """NaN where missing; the index of the class where classes are words."""
    where: str
    """File, and line or replicate, for messages."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Records that its file holds and the example does not, by reason."""


class Label(Section):
    """Where the value of one parameter is found; without any of these keys, in the column of `table` that has its name."""

    column: str | None = None
    """Column of `table`."""
    flag: str | None = None
    """Option of the command line in the file, e.g. `-t` (ms text only)."""
    value: int = Field(default=1, ge=1)
    """Which of the numbers after `flag`."""
    metadata: str | None = None
    """Key of the tree sequence's metadata or of the parameters in its provenance; dots lead into nested values (trees only)."""
    folder: list[str] | None = Field(default=None, min_length=2)
    """The classes: the one of these words that names a folder on the file's path, or begins the name of the file."""
    classes: list[float | str] | None = Field(default=None, min_length=2)
    """The values that a `column` of classes may have, words or numbers."""

    @model_validator(mode="after")
    def _check(self) -> Label:
        given = [key for key in ("column", "flag", "metadata", "folder") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of column, flag, metadata and folder; found {given}")
        if self.folder is not None and self.classes is not None:
            raise ValueError("folder lists the classes already; leave out `classes`")
        return self

    @property
    def prior(self) -> Prior | None:
        """A choice among the classes, if there are any."""
        classes = self.folder or self.classes
        return Prior(distribution="choice", arguments=classes) if classes else None

    def number(self, word: str, *, name: str, where: str) -> float:
        """The value that a word of a table or file stands for; empty, NA, nan and `.` are missing."""
        if word.strip().lower() in ("", "na", "nan", "."):
            return float("nan")
        classes = self.prior.classes if self.prior else []
        if classes and word in classes and isinstance(self.prior.arguments[0], str):  # type: ignore[union-attr,index]
            return float(classes.index(word))
        try:
            value = float(word)
        except ValueError:
            value = None
        if value is None or (classes and f"{value:g}" not in classes):
            expected = f"one of {', '.join(classes)}" if classes else "a number (words need `classes`)"
            raise PopdlError(f"{where}: {name} is {word!r}, expected {expected}.")
        return value


class Importer(Section):
    """The `import:` section; a format adds its own keys by subclassing, and defines :meth:`survey` and :meth:`examples`."""

    format: str
    """Which format: one that popdl knows, or `path/to/file.py:ClassName`."""
    parameters: list[str] | dict[str, Label] = Field(min_length=1)
    """What the examples are labelled with: names of columns of `table`, or for each name where its value is found."""
    table: Path | None = None
    """A table of labels with a header: TSV, CSV or JSON."""
    num_haplotypes: int = Field(ge=2)
    """Haplotypes in each example."""
    sequence_length: float = Field(gt=0)
    """Length of each example in bp."""
    ploidy: int = Field(default=2, ge=1)
    """Haplotypes per individual; those of an individual lie side by side."""
    num_scenarios: int = Field(ge=1)
    """Number of scenarios that the data holds: of different parameter draws. A wrong number is refused, naming the right one."""
    replicates: int = Field(default=1, ge=1)
    """Examples of each scenario; they follow each other, and share all parameters."""
    shard_size: int = Field(default=500, ge=1)
    """Examples per import job and file."""

    sources: ClassVar[tuple[str, ...]] = ("column", "folder")
    """Where labels of this format can come from."""

    @field_validator("parameters", mode="after")
    @classmethod
    def _check_parameters(cls, parameters: list[str] | dict[str, Label]) -> list[str] | dict[str, Label]:
        if isinstance(parameters, list) and len(set(parameters)) < len(parameters):
            raise ValueError(f"a name is there twice: {parameters}")
        return parameters

    @model_validator(mode="after")
    def _check(self) -> Importer:
        if self.num_haplotypes % self.ploidy:
            raise ValueError(
                f"num_haplotypes: expected a multiple of the ploidy ({self.ploidy}), found {self.num_haplotypes}"
            )
        for name, label in self.labels.items():
            for key in ("flag", "metadata", "folder"):
                if getattr(label, key) is not None and key not in self.sources:
                    raise ValueError(f"parameters.{name}: format {self.format} has no `{key}`; use {self.sources}")
        if self.columns and self.table is None:
            raise ValueError(f"table: give the file with the labels {', '.join(self.columns)}")
        return self

    @cached_property
    def labels(self) -> dict[str, Label]:
        """Where each parameter's value is found; by name, as the order of parameters in a config is free."""
        if isinstance(self.parameters, dict):
            return dict(sorted(self.parameters.items()))
        return {name: Label() for name in sorted(self.parameters)}

    @property
    def columns(self) -> dict[str, str]:
        """The column of `table` that holds each parameter found there."""
        return {
            name: label.column or name
            for name, label in self.labels.items()
            if label.flag is label.metadata is label.folder is None
        }

    @property
    def total_haplotypes(self) -> int:
        return self.num_haplotypes

    @property
    def num_examples(self) -> int:
        return self.num_scenarios * self.replicates

    @property
    def priors(self) -> dict[str, Prior]:
        """The classes of parameters that have any; of the others no prior is known, only the values."""
        return {name: prior for name, label in self.labels.items() if (prior := label.prior) is not None}

    @property
    def parameter_names(self) -> list[str]:
        """Names of all values that an example is labelled with: targets are chosen among these."""
        return list(self.labels)

    @property
    def phased(self) -> bool:
        """Whether it is known which alleles of an individual lie on one haplotype."""
        return True

    @property
    def origin(self) -> str:
        """Where the examples come from, in words for the report."""
        return f"imported ({self.format.rpartition(':')[2] or self.format})"

    def input_files(self) -> list[Path]:
        """Files that decide the import."""
        return [self.table] if self.table else []

    def survey(self) -> Survey:
        """Look at all data once: how many scenarios there are, and what reading a part of them needs.

        Raises
        ------
        PopdlError
            If files are missing, or what they hold does not fit together.
        """
        raise NotImplementedError

    def examples(self, survey: Survey, first: int, last: int, *, seed: int) -> Iterator[LabelledExample]:
        """Read the examples ``first`` to ``last`` (exclusive).

        Parameters
        ----------
        survey
            From :meth:`survey`, perhaps in another process.
        seed
            The study's seed, for formats in which something is left to chance.
        """
        raise NotImplementedError

    def read_table(self) -> Table:
        """The table of labels, which must have a column for each parameter found there."""
        assert self.table is not None
        table = read_table(self.table)
        table.need(list(self.columns.values()))
        return table

    def table_labels(self, table: Table, row: int) -> dict[str, float]:
        """The labels that a row of the table holds."""
        return {
            name: self.labels[name].number(table.columns[column][row], name=name, where=table.where(row))
            for name, column in self.columns.items()
        }

    def path_labels(self, path: Path) -> dict[str, float]:
        """The labels that the place of a file tells."""
        return {
            name: float(_folder_class(path, label.folder, name=name))
            for name, label in self.labels.items()
            if label.folder is not None
        }


class FileImporter(Importer):
    """An importer of files that the config names."""

    files: Path | list[Path]
    """A file, a pattern such as `sims/*.txt.gz`, or a list of these; numbers in names are sorted as numbers."""

    @cached_property
    def paths(self) -> list[Path]:
        """The files, in order.

        Raises
        ------
        PopdlError
            If a name or a pattern fits no file.
        """
        return expand(self.files if isinstance(self.files, list) else [self.files])

    def input_files(self) -> list[Path]:
        return [*self.paths, *super().input_files()]

    def count_scenarios(self, num_examples: int) -> int:
        """How many scenarios so many examples are; refused where they do not come out even."""
        if num_examples % self.replicates:
            raise PopdlError(
                f"import.replicates: the data holds {num_examples} examples, which is no multiple of {self.replicates}; correct it."
            )
        return num_examples // self.replicates

    def named_files(self, table: Table) -> list[Path]:
        """The file that each row of the table names in its column `file`, as a path or by its name alone."""
        table.need([FILE])
        by_name = {str(path): path for path in self.paths} | {path.name: path for path in self.paths}
        for row, name in enumerate(table.columns[FILE]):
            if name not in by_name:
                raise PopdlError(f"{table.where(row)}: {name} is not among import.files; {suggestion(name, by_name)}.")
        if len({path.name for path in self.paths}) < len(self.paths) and not set(table.columns[FILE]) <= set(
            map(str, self.paths)
        ):
            raise PopdlError(
                f"{table.path}: two of import.files have the same name; write their paths into the column {FILE}."
            )
        named = [by_name[name] for name in table.columns[FILE]]
        if missing := [path for path in self.paths if path not in set(named)]:
            raise PopdlError(
                f"{table.path}: no row names {missing[0]}, and {len(missing)} of import.files in all; add them."
            )
        return named

    def rows_of_files(self) -> tuple[Table, dict[Path, int]]:
        """The table, and the one row of each file."""
        table = self.read_table()
        named = self.named_files(table)
        rows = {path: row for row, path in enumerate(named)}
        if len(rows) < len(named):
            twice = next(path for path in named if named.count(path) > 1)
            raise PopdlError(f"{table.path}: {twice} has several rows; give it one.")
        return table, rows


def _folder_class(path: Path, classes: list[str], *, name: str) -> int:
    fitting = [
        index
        for index, word in enumerate(classes)
        if word in path.parent.parts or path.name.split(".")[0].startswith(word)
    ]
    if len(fitting) != 1:
        found = ", ".join(classes[index] for index in fitting) or "none of them"
        raise PopdlError(
            f"{path}: {name}: expected exactly one of {', '.join(classes)} as a folder or at the start of the file's name, found {found}."
        )
    return fitting[0]

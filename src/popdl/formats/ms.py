"""Text of ms, msms, discoal, scrm and others that print the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from popdl.errors import PopdlError
from popdl.formats._base import FileImporter, LabelledExample, Survey
from popdl.ms_text import count_replicates, flag_value, read_replicates
from popdl.text_files import open_lines, reading

__all__ = ["Ms"]


class Ms(FileImporter):
    """Text of ms, msms, discoal, scrm and others, plain or gzipped. Examples are the replicates of all files in their order;
    row i of `table` labels scenario i."""

    sources = ("column", "flag", "folder")

    def survey(self) -> Survey:
        counts = [_count(path) for path in self.paths]
        num_examples = sum(counts)
        num_scenarios = self.count_scenarios(num_examples)
        if self.columns:
            num_rows = self.read_table().num_rows
            if num_rows != num_scenarios:
                raise PopdlError(
                    f"{self.table}: {num_rows} rows of labels, but the files hold {num_examples} replicates of "
                    f"{num_scenarios} scenarios (import.replicates: {self.replicates}); one row is needed for each scenario."
                )
        return {"num_scenarios": num_scenarios, "left_out": {}, "counts": counts}

    def examples(self, survey: Survey, first: int, last: int, *, seed: int) -> Iterator[LabelledExample]:
        table = self.read_table() if self.columns else None
        flags = {name: label for name, label in self.labels.items() if label.flag is not None}
        start = 0
        for path, count in zip(self.paths, survey["counts"], strict=True):
            low, high = max(first - start, 0), min(last - start, count)
            if low < high:
                fixed = self.path_labels(path)
                with reading(path), open_lines(path) as lines:
                    replicates = read_replicates(
                        lines,
                        num_haplotypes=self.num_haplotypes,
                        sequence_length=self.sequence_length,
                        where=str(path),
                        first=low,
                    )
                    for number, replicate in enumerate(islice(replicates, high - low), start=start + low):
                        labels = dict(fixed)
                        for name, label in flags.items():
                            assert label.flag is not None
                            labels[name] = flag_value(replicate, label.flag, label.value)
                        if table is not None:
                            labels |= self.table_labels(table, number // self.replicates)
                        yield LabelledExample(replicate.example, labels, replicate.where)
            start += count


def _count(path: Path) -> int:
    with reading(path), open_lines(path) as lines:
        count = count_replicates(lines)
    if not count:
        raise PopdlError(
            f"{path}: there is no line that starts with '//'; expected the output of ms or a program like it."
        )
    return count

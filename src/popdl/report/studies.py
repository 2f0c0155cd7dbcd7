"""The pages that show published studies beside ours, from the studies' results: no number is typed by hand.

``python -m popdl.report.studies config/theta_small.yaml config/hotspot_small.yaml`` (or ``make studies``, which runs them first) reads
``results/<study>/metrics.json`` and Snakemake's benchmark files of each. The table of all is ``docs/studies.md``, and each study has a
page in ``docs/studies/``. A study without results is listed as not run; of full sizes, ``plan.json``, ``dry_run.txt`` and what there is
of their results say how far they got.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from popdl.config.study import Study, load_study
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.layout import Results
from popdl.report.bookkeeping import cpu_seconds
from popdl.report.full_sizes import full_sizes
from popdl.report.published import METRICS, best_baseline, of_network, published_table
from popdl.report.study_page import (
    WRITTEN,
    Finished,
    against_published,
    in_words,
    score_text,
    target_label,
    write_study_page,
)
from popdl.report.wording import number

__all__ = ["write_studies"]

OPENING = f"""# Published studies, repeated

{WRITTEN}

Each study takes a question, a prior and a network from a paper, and sets popdl's networks and plain baselines on summary statistics beside
them, on one test split. `config/<study>.yaml` has the authors' setting; its `_small` version runs on two cores.
*Ours* is the mean ± standard deviation over trainings that differ by seed; the network that was chosen by its validation loss, never by the test
split, is marked with \\*. *Baseline* is the best of the baselines **on the test split**, ± one bootstrap standard error: a choice in its favour.
Published figures are of other data or of the full size unless said otherwise.
"""


def write_studies(configs: Sequence[Path], *, results: Path, output: Path) -> None:
    """Write the table and the page of each study, with copies of the figures that they show.

    Parameters
    ----------
    configs
        The studies, in the order of the table. One whose name with ``_small`` is another's is a full size.
    results
        The folder that holds a folder for each study.
    output
        The Markdown file of the table. Pages lie in a folder of the same name, without the ending, figures in ``images/`` beside it.

    Raises
    ------
    PopdlError
        If a config is not valid, or the results are not those of its study.
    """
    finished: list[Finished] = []
    missing: list[str] = []
    studies = {config: load_study(config) for config in configs}
    names = {study.study for study in studies.values()}
    full = [study for study in studies.values() if f"{study.study}_small" in names]
    for config, study in studies.items():
        layout = Results(results / study.study)
        if not layout.metrics.is_file():
            if study not in full:
                missing.append(study.study)
            continue
        metrics = json.loads(layout.metrics.read_text(encoding="utf-8"))
        _check(layout.metrics, study, metrics)
        finished.append(Finished(config, study, layout, metrics))
    lines = [OPENING, *_overview(finished, output.stem), ""]
    if missing:
        lines += [f"**Not run yet:** {', '.join(missing)}.", ""]
    lines += [*in_words(finished, output.stem), *against_published(finished, output.stem), *full_sizes(full, results)]
    write_text(output, "\n".join(lines).rstrip() + "\n")
    for one in finished:
        write_study_page(one, table=output)


def _check(path: Path, study: Study, metrics: dict[str, Any]) -> None:
    """Refuse results of another version of the config."""
    trained = {name.rpartition("/")[0] for name, model in metrics["models"].items() if model["kind"] == "network"}
    if set(study.targets) != set(metrics["targets"]) or set(study.networks) != trained:
        raise PopdlError(
            f"{path}: expected results for the targets {', '.join(study.targets)} and the networks {', '.join(study.networks)}, found "
            f"{', '.join(metrics['targets'])} and {', '.join(sorted(trained))}; run the study again."
        )


def _overview(finished: Sequence[Finished], pages: str) -> Iterator[str]:
    yield "| study | target | measure | network | published | baseline | ours | CPU time |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in finished:
        cpu = _minutes(cpu_seconds(one.results.folder))
        for target in one.study.targets:
            yield from _rows(one, target, cpu, pages)
    if finished:
        days = sorted({_day(one.results.metrics) for one in finished})
        yield ""
        yield (
            f"Run on {' to '.join(dict.fromkeys([days[0], days[-1]]))}; this page was written on a machine with {os.cpu_count()} cores "
            f"({_processor()}). CPU time is that of all jobs of the study, Snakemake itself left out."
        )


def _rows(one: Finished, target: str, cpu: str, pages: str) -> Iterator[str]:
    """One row for each network."""
    figures = [row for row in published_table(one.study, one.metrics) if row["target"] == target]
    metric = figures[0]["key"] if figures else _usual_metric(one, target)
    baseline = best_baseline(one.metrics, target, metric)
    chosen = one.metrics["best_network"].rpartition("/")[0]
    for network in one.study.networks:
        beside = [
            f"{row['value']:g} ({row['method']})"
            for row in figures
            if row["key"] == metric and row["ours"] is not None and row["ours"].name == network
        ]
        ours = of_network(one.metrics, network, target, metric)
        cells = [
            f"[{one.study.study}]({pages}/{one.study.study}.md)",
            figures[0]["label"] if figures else target_label(one, target),
            METRICS[metric],
            network + (" \\*" if network == chosen else ""),
            "; ".join(beside) or "–",
            f"{score_text(baseline)} ({baseline.name})" if baseline else "–",
            score_text(ours),
            cpu,
        ]
        yield f"| {' | '.join(cells)} |"


def _usual_metric(one: Finished, target: str) -> str:
    return "r2" if one.metrics["targets"][target]["task"] == "regression" else "accuracy"


def _minutes(seconds: float | None) -> str:
    return "–" if seconds is None else f"{number(seconds / 60)} min"


def _day(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def _processor() -> str:
    """The processor as Linux calls it; elsewhere what Python knows."""
    try:
        named = re.search(r"^model name\s*: *(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named.group(1) if named else platform.machine()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m popdl.report.studies", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("configs", nargs="+", type=Path, help="the configs of the studies, in the order of the table")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--output", type=Path, default=Path("docs/studies.md"), help="default: docs/studies.md")
    options = parser.parse_args(arguments)
    try:
        write_studies(options.configs, results=options.results, output=options.output)
    except PopdlError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

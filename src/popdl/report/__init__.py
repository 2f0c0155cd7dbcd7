"""The report of a study: one HTML page that opens anywhere, and first says whether to believe the rest."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from popdl.cards import class_prior
from popdl.config.study import Study
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.outcomes import Outcomes, read_outcomes
from popdl.report.answers import application_answers, quality, question, trust
from popdl.report.bookkeeping import (
    dropped,
    prediction_transforms,
    references,
    run_times,
    started_from,
    training_table,
    versions,
)
from popdl.report.published import published_table
from popdl.report.runs import replicates_table, search_tables, searched_data
from popdl.report.wording import Figure, badge, baselines_read, count, measured, number, uncertainty

__all__ = ["write_report"]


def write_report(*, results: Path, study: Study, output: Path) -> None:
    """Write the report of a study whose results and figures are there.

    Parameters
    ----------
    results
        ``results/<study>``.
    study
        The study.
    output
        The HTML file. It holds its pictures and makes no request to anywhere.

    Raises
    ------
    PopdlError
        If a result or a figure is missing.
    """
    outcomes = read_outcomes(results, study)
    environment = Environment(
        loader=PackageLoader("popdl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count, "uncertainty": uncertainty}
    page = environment.get_template("report.html").render(
        study=study,
        question=question(outcomes),
        verdict=outcomes.metrics["verdict"],
        measured=measured,
        baselines_read=baselines_read(study.baseline_statistics),
        verdict_badge=badge(outcomes.metrics["verdict"]["outcome"]),
        quality=quality(outcomes),
        trust=trust(outcomes),
        applications=application_answers(outcomes),
        best=outcomes.best,
        interval=outcomes.metrics["interval"],
        num_test=outcomes.metrics["num_test_examples"],
        metrics=outcomes.metrics,
        targets=outcomes.targets,
        training=training_table(outcomes),
        started_from=started_from(outcomes),
        class_priors={name: class_prior(described) for name, described in outcomes.targets.items()},
        dropped=dropped(outcomes),
        prediction_transforms=prediction_transforms(outcomes),
        run_times=run_times(outcomes),
        versions=versions(outcomes),
        references=references(outcomes),
        config=outcomes.results.config.read_text(encoding="utf-8"),
        figures=_figures(outcomes),
        other_networks=[name.replace("/", "_") for name in [*outcomes.networks[1:], *outcomes.ensembles]],
        replicates=replicates_table(outcomes),
        published=published_table(study, outcomes.metrics),
        search=search_tables(outcomes),
        searched_data=searched_data(outcomes),
    )
    write_text(output, page)


def _figures(outcomes: Outcomes) -> dict[str, Figure]:
    """Every figure by name, as a data URI."""
    folder = outcomes.results.figures
    needed = ["priors", "training", "baselines", "calibration", *(f"genome_{name}" for name in outcomes.windows)]
    needed += [f"scan_{name}" for name in outcomes.study.scans]
    needed += [f"parity_{name.replace('/', '_')}" for name in [*outcomes.networks, *outcomes.ensembles]]
    if missing := [name for name in needed if not (folder / f"{name}.png").is_file()]:
        raise PopdlError(f"{folder / missing[0]}.png: this figure is missing; draw the figures before the report.")
    figures = {}
    for path in sorted(folder.glob("*.png")):
        content = path.read_bytes()
        width = int.from_bytes(content[16:20], "big")  # PNG keeps its width in bytes 16-19
        encoded = base64.b64encode(content).decode()
        figures[path.stem] = Figure(f"data:image/png;base64,{encoded}", round(width / 1.25))
    return figures

"""The page of one published study: the question, its figures, what came out, and how to run it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popdl.config.study import Study, study_values
from popdl.files import write_text
from popdl.layout import Results
from popdl.report.published import Score, published_table
from popdl.report.wording import baselines_read, measured, uncertainty

__all__ = ["WRITTEN", "Finished", "against_published", "in_words", "score_text", "target_label", "write_study_page"]

WRITTEN = "<!-- Written by `make studies` from the studies' results; edit the configs, or the modules in src/popdl/report. -->"
RESOURCES = "resources/"
"""Where files that studies read lie; its README says where they come from."""


@dataclass(frozen=True)
class Finished:
    """A study with results."""

    config: Path
    study: Study
    results: Results
    metrics: dict[str, Any]


def write_study_page(one: Finished, *, table: Path) -> None:
    """Write the page of a study, with copies of its figures.

    Parameters
    ----------
    one
        The study.
    table
        The Markdown file of the table of all studies. The page lies in a folder of the same name, without the ending, figures in
        ``images/`` beside it.
    """
    page = table.with_suffix("") / f"{one.study.study}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, "\n".join(_page(one, table)).rstrip() + "\n")


def _page(one: Finished, table: Path) -> Iterator[str]:
    study, verdict = one.study, one.metrics["verdict"]["sentences"]
    yield f"# {study.study}\n"
    yield f"{WRITTEN}\n"
    yield f"**{verdict[0]}**\n"
    yield f"{study.description}\n"
    for name, alternative, caption in _figures(one, table):
        yield f"![{alternative}](../images/{name})\n"
        yield f"*{caption}*\n"
    yield "## What came out\n"
    told = [*verdict, baselines_read(study.baseline_statistics), study.remark]
    yield from (f"* {sentence}" for sentence in filter(None, told))
    yield f"* {one.metrics['num_test_examples']:,} test examples, scored once. [All studies](../{table.name})"
    yield ""
    if study.published:
        yield "| published | target | measure | value | here | by | at least as good | source |"
        yield "|---|---|---|---|---|---|---|---|"
        yield from (f"| {' | '.join(_published_cells(row))} | {row['source']} |" for row in _published(one))
        yield ""
        yield from (f"* {remark}" for remark in _remarks(one))
        yield ""
    yield "## Run it\n"
    yield f"```\nsnakemake --cores 2 --configfile {one.config}\n```\n"
    files = sorted({f"`{path}`" for path in _resources(study_values(study))})
    yield (
        f"It reads {_and(files)}: [where from](../../resources/README.md)."
        if files
        else "It needs no files: all of its data are simulated."
    )


def _figures(one: Finished, table: Path) -> Iterator[tuple[str, str, str]]:
    """Name of each copied figure, what is said where it cannot be shown, and its caption."""
    best, tasks = one.metrics["best_network"], {described["task"] for described in one.metrics["targets"].values()}
    truth = {
        "regression": "dots on the line are predictions that are right",
        "classification": "each row shows what became of the examples of one class",
    }
    first = next(iter(one.metrics["targets"]))
    captions = {
        "baselines": (
            "Networks and baselines",
            f"Networks (blue; filled: {best}, chosen by its validation loss; diamonds: replicates that predict together) and baselines on summary "
            "statistics (grey) on the test split, with two standard errors to either side.",
        ),
        f"parity_{best.replace('/', '_')}": (
            "Truth and prediction",
            f"Truth and prediction of {best} on the test split: {'; '.join(truth[task] for task in sorted(tasks))}.",
        ),
        f"by_parameter_{first}": (
            "Errors by parameter",
            f"Where {one.metrics['targets'][first]['label']} is predicted well and where badly: errors of {best} and of the strongest baseline on "
            "test simulations that are alike in a parameter, with two standard errors to either side.",
        ),
    }
    for name, (alternative, caption) in captions.items():
        figure = one.results.figures / f"{name}.png"
        if figure.is_file():
            kind = next(kind for kind in ("baselines", "parity", "by_parameter") if name.startswith(kind))
            copied = table.parent / "images" / f"study_{one.study.study}_{kind}.png"
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(figure, copied)
            yield copied.name, alternative, caption


def _resources(value: Any) -> Iterator[str]:
    """Files of ``resources/`` that a config names."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _resources(item)
    elif isinstance(value, str) and value.startswith(RESOURCES):
        yield value


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def in_words(finished: Sequence[Finished], pages: str) -> Iterator[str]:
    """The section of the table of all studies that says of each whether its network wins, and what must be known to judge that.

    Parameters
    ----------
    finished
        The studies.
    pages
        Name of the folder of their pages.
    """
    if not finished:
        return
    yield "## In words\n"
    for one in finished:
        verdict = one.metrics["verdict"]
        overall, *of_targets = verdict["sentences"]
        told = of_targets if len(of_targets) == 1 else [overall]
        told.append(baselines_read(one.study.baseline_statistics))
        if verdict["outcome"] != "better":
            told.append(one.study.remark)
        yield f"* [{one.study.study}]({pages}/{one.study.study}.md): {' '.join(filter(None, told))}"
    yield ""


def against_published(finished: Sequence[Finished], pages: str) -> Iterator[str]:
    """The section of the table of all studies that sets every published figure beside ours.

    Parameters
    ----------
    finished
        The studies.
    pages
        Name of the folder of their pages.
    """
    studies = [one for one in finished if one.study.published]
    if not studies:
        return
    yield "## Beside what others reported\n"
    yield "| study | published | target | measure | value | here | by | at least as good |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in studies:
        link = f"[{one.study.study}]({pages}/{one.study.study}.md)"
        yield from (f"| {link} | {' | '.join(_published_cells(row))} |" for row in _published(one))
    yield ""
    about: dict[str, list[str]] = {}
    for one in studies:
        for remark in _remarks(one):
            about.setdefault(remark, []).append(one.study.study)
    yield from (f"* {_and(names)}, {remark}" for remark, names in about.items())
    yield ""


def _published(one: Finished) -> list[dict[str, Any]]:
    return published_table(one.study, one.metrics)


def _published_cells(row: dict[str, Any]) -> list[str]:
    ours = row["ours"]
    by = "–" if ours is None else ours.name if row["repeated"] else f"{ours.name}, another method"
    reached = "–" if row["reached"] is None else "yes" if row["reached"] else "no"
    return [row["method"], row["label"], row["metric"], f"{row['value']:g}", score_text(ours), by, reached]


def _remarks(one: Finished) -> Iterator[str]:
    """What must be known to compare the figures, each said once."""
    remarks: dict[str, list[str]] = {}
    for figure in one.study.published:
        if figure.remark:
            methods = remarks.setdefault(figure.remark, [])
            methods += [figure.method] if figure.method not in methods else []
    for remark, methods in remarks.items():
        yield f"*{_and(methods)}*: {remark}"


def target_label(one: Finished, target: str) -> str:
    """What figures call a target, with its scale."""
    described = one.metrics["targets"][target]
    return str(described["label"]) + (" (log10)" if described["scale"] == "log" else "")


def score_text(score: Score | None) -> str:
    """A figure to the second digit of what it varies by."""
    if score is None:
        return "–"
    return f"{measured(score.value, score.spread)} {uncertainty(score.spread)}".strip()

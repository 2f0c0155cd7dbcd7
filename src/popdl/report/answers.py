"""What the first screen says: the question, the answer, how good it is, and whether to trust it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from popdl.config.application import Application
from popdl.outcomes import Outcomes
from popdl.report.wording import Badge, badge, count, length, number, span
from popdl.scaling import circular_mean, next_to_prediction, turns_around

__all__ = ["application_answers", "quality", "question", "trust"]

MOST_WINDOWS = 300
"""Rows of a table of windows in the page; the rest is in the TSV."""
WORST_STATISTICS = 3
CORRELATIONS = ("pearson", "pearson_log", "spearman")
WORDS = {
    "better": "better",
    "not distinguishable": "no better",
    "worse": "worse",
    "cannot be said": "cannot be said",
    "not compared": "not compared",
}


def question(outcomes: Outcomes) -> dict[str, Any]:
    """What is asked, of what data."""
    source = outcomes.study.source
    scenarios = f"{count(source.num_examples)} simulations"
    if source.replicates > 1:
        scenarios += f" ({count(source.num_scenarios)} scenarios × {source.replicates})"
    populations = (
        " (" + ", ".join(f"{number} {name}" for name, number in source.num_haplotypes.items()) + ")"
        if isinstance(source.num_haplotypes, dict)
        else ""
    )
    return {
        "targets": [
            {"label": described["label"], "unit": described["unit"], "range": _range(described)}
            for described in outcomes.targets.values()
        ],
        "data": f"{source.total_haplotypes} haplotypes{populations} × {length(source.sequence_length)}",
        "learned_from": f"{scenarios} {source.origin}",
        "genomes": [f"{name} ({_source(application)})" for name, application in outcomes.study.applications.items()],
    }


def _range(described: Mapping[str, Any]) -> str:
    if described["task"] == "classification":
        return " or ".join(described["classes"])
    return span(described["low"], described["high"])


def _source(application: Application) -> str:
    if application.vcf is None:
        return "simulated under known parameters"
    return application.vcf.name + (f", {application.build}" if application.build else "")


def quality(outcomes: Outcomes) -> list[dict[str, Any]]:
    """How good the best network is at each target, the worst verdict first."""
    verdicts = outcomes.metrics["verdict"]["targets"]
    rows = []
    for target, described in outcomes.targets.items():
        score = outcomes.metrics["models"][outcomes.best]["targets"][target]
        if "metrics" not in score:
            continue
        values = {name: metric["value"] for name, metric in score["metrics"].items()}
        if described["task"] == "regression":
            headline = f"R² {_decimal(values['r2'])}"
            error = values["median_relative_error"]
            detail = f"typically off by {error:.0%}" if error is not None else ""
        else:
            headline = f"accuracy {values['accuracy']:.0%}"
            detail = f"{len(described['classes'])} classes, balanced accuracy {values['balanced_accuracy']:.0%}"
        if score["num_missing"]:
            detail += f"{', ' if detail else ''}on {count(score['n'])} that have a value"
        outcome = verdicts.get(target, {}).get("outcome", "not compared")
        against = verdicts.get(target, {}).get("baseline")
        rows.append(
            {
                "label": described["label"],
                "headline": headline,
                "detail": detail,
                "badge": Badge(badge(outcome).state, WORDS[outcome]),
                "against": f"than {against}" if against and outcome != "cannot be said" else "",
            }
        )
    return sorted(rows, key=lambda row: ("bad", "warn", "good").index(row["badge"].state))


def _decimal(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}".replace("-", "−")


def trust(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Whether intervals hold, and whether each genome looks like the simulations; what speaks against trust first."""
    lines = [_coverage(outcomes)] if _covered(outcomes) else []
    lines += [_domain(outcomes, name) for name in outcomes.windows]
    return sorted(lines, key=lambda line: ("bad", "warn", "good").index(line["badge"].state))


def _covered(outcomes: Outcomes) -> dict[str, tuple[float, float, float]]:
    """Coverage of each target's intervals, with the band in which it should lie."""
    scores = outcomes.metrics["models"][outcomes.best]["targets"]
    return {
        outcomes.targets[name]["label"]: (score["metrics"]["coverage"]["value"], *score["coverage_band"])
        for name, score in scores.items()
        if "coverage_band" in score
    }


def _coverage(outcomes: Outcomes) -> dict[str, Any]:
    covered = _covered(outcomes)
    promised = f"{outcomes.metrics['interval']:.0%}"
    narrow = [f"{name} ({share:.0%})" for name, (share, low, _) in covered.items() if share < low]
    wide = [f"{name} ({share:.0%})" for name, (share, _, high) in covered.items() if share > high]
    shares = ", ".join(f"{share:.0%} ({name})" for name, (share, _, _) in covered.items())
    if narrow:
        return {
            "badge": Badge("bad", "Intervals too narrow"),
            "text": f"{promised} intervals hold fewer truths than they promise: {', '.join(narrow)}.",
        }
    if wide:
        return {
            "badge": Badge("warn", "Intervals too wide"),
            "text": f"{promised} intervals hold more truths than they promise: {', '.join(wide)}. They err on the safe side.",
        }
    return {
        "badge": Badge("good", "Intervals hold"),
        "text": f"In test simulations, {promised} intervals hold the truth as often as they promise: {shares}.",
    }


def _domain(outcomes: Outcomes, name: str) -> dict[str, Any]:
    windows = outcomes.windows[name][outcomes.best]
    predicted = windows[windows["reason"] == ""]
    outside = int(predicted["outside_domain"].sum())
    expected = 1 - outcomes.study.evaluation.domain
    if predicted.empty:
        return {"badge": Badge("bad", "No prediction"), "text": f"{name}: no window could be predicted."}
    text = f"{name}: {outside} of {len(predicted)} windows lie outside the range of the simulations."
    if outside:
        text += f" Furthest out: {', '.join(_furthest(outcomes, name))}."
    if outside > len(predicted) / 2:
        return {"badge": Badge("bad", "Unlike the simulations"), "text": f"{text} Do not rely on these predictions."}
    if outside > max(2 * expected * len(predicted), 0):
        return {"badge": Badge("warn", "Partly unlike the simulations"), "text": f"{text} Rely on the others only."}
    return {"badge": Badge("good", "Like the simulations"), "text": text}


def _furthest(outcomes: Outcomes, name: str) -> list[str]:
    """The statistics that are furthest out in windows outside the domain."""
    table = outcomes.realism[name]
    outside = table[table["outside_domain"] & table["deviation"].notna()]
    worst = outside["deviation"].abs().groupby(outside["statistic"]).max().sort_values(ascending=False, kind="stable")
    return [str(statistic) for statistic in worst.index[:WORST_STATISTICS]]


def application_answers(outcomes: Outcomes) -> list[dict[str, Any]]:
    """What the best network says about each genome, in short and window by window."""
    answers = []
    for name, application in outcomes.study.applications.items():
        windows = outcomes.windows[name][outcomes.best]
        predicted = windows[windows["reason"] == ""]
        inside = predicted[~predicted["outside_domain"]]
        used = inside if len(inside) else predicted
        true = outcomes.true_values(name)
        answers.append(
            {
                "name": name,
                "source": _source(application),
                "windows": _windows_in_words(windows, predicted, inside),
                "targets": [
                    _answer(target, described, used, true.get(target))
                    for target, described in outcomes.targets.items()
                    if len(used)
                ],
                "has_truth": bool(true),
                "columns": [described["label"] for described in outcomes.targets.values()],
                "rows": [_window(outcomes.targets, row) for row in windows.head(MOST_WINDOWS).to_dict("records")],
                "num_windows": len(windows),
                "table": f"applications/{name}/{outcomes.best}.windows.tsv",
                "comparison": _comparison(outcomes, name),
            }
        )
    return answers


def _comparison(outcomes: Outcomes, name: str) -> dict[str, Any] | None:
    """How the predictions of every method go together with a recombination map; None where there is no map."""
    compare = outcomes.study.applications[name].compare
    if compare is None:
        return None
    methods = outcomes.correlations[name].groupby("method", sort=False)
    return {
        "label": outcomes.targets[compare.target]["label"],
        "map": compare.map.name,
        "window": length(outcomes.study.applications[name].windows.size or 0),
        "rows": [
            {
                "method": method,
                "scale": length(row["scale"]),
                "bins": row["bins"],
                "left_out": row["left_out"],
                "values": [_decimal(None if np.isnan(row[key]) else row[key]) for key in CORRELATIONS],
            }
            for method, rows in methods
            for row in rows.to_dict("records")
        ],
    }


def _windows_in_words(windows: pd.DataFrame, predicted: pd.DataFrame, inside: pd.DataFrame) -> str:
    text = f"{len(predicted)} of {len(windows)} windows predicted"
    if len(predicted) and not len(inside):
        return f"{text}; all of them lie outside the training domain"
    if len(inside) < len(predicted):
        return f"{text}; summed up over the {len(inside)} inside the training domain"
    return text


def _answer(target: str, described: Mapping[str, Any], windows: pd.DataFrame, true: float | None) -> dict[str, str]:
    """One target over all windows: the middle of the predictions, their spread, and how often intervals hold the truth."""
    if described["task"] == "classification":
        counts = windows[target].value_counts()
        classes = described["classes"]
        word = "" if true is None else f"{true:g}" if f"{true:g}" in classes else classes[int(true)]
        return {
            "label": described["label"],
            "value": str(counts.index[0]),
            "spread": f"{counts.iloc[0]} of {len(windows)} windows",
            "true": word,
            "covered": f"in {int((windows[target] == word).sum())} of {len(windows)} windows" if word else "",
        }
    values = windows[target].to_numpy(dtype=float)
    period = described.get("circular")
    if period is not None:
        centre = circular_mean(values, period)
        values = centre + turns_around(values - centre, period)
    middle = float(np.median(values))
    low, high = np.percentile(values, (10, 90))
    covered = ""
    if true is not None:
        columns = (windows[column].to_numpy(dtype=float) for column in (target, f"{target}_low", f"{target}_high"))
        place, _, start, end = next_to_prediction(np.full(len(windows), true), *columns, period=period)
        held = int(((start <= place) & (place <= end)).sum())
        covered = f"in {held} of {len(windows)} intervals"
    return {
        "label": described["label"] + (f" ({described['unit']})" if described["unit"] else ""),
        "value": number(middle if period is None else middle % period),
        "spread": span(low, high),
        "true": "" if true is None else number(true),
        "covered": covered,
    }


def _window(targets: Mapping[str, Mapping[str, Any]], row: Mapping[Any, Any]) -> dict[str, Any]:
    cells = []
    for target, described in targets.items():
        if row["reason"]:
            cells.append({"value": "–", "interval": ""})
        elif described["task"] == "classification":
            cells.append({"value": row[target], "interval": f"{row[f'{target}_p_{row[target]}']:.0%}"})
        else:
            interval = span(row[f"{target}_low"], row[f"{target}_high"])
            cells.append({"value": number(row[target]), "interval": interval})
    state = row["reason"] or ("outside" if row["outside_domain"] else "inside")
    return {
        "contig": row["contig"],
        "start": f"{row['start']:,}",
        "end": f"{row['end']:,}",
        "sites": f"{row['n_sites']:,}",
        "cells": cells,
        "state": state,
        "flagged": bool(row["reason"] or row["outside_domain"]),
    }

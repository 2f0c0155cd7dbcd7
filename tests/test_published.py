"""Figures of others: in the config, in the report, and on the page of all studies."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml
from fabricated import fabricate, study
from test_evaluation import ERRORS

from popdl.config.published import Published
from popdl.config.study import study_text
from popdl.errors import PopdlError
from popdl.plots.figures import make_figures
from popdl.report import write_report
from popdl.report.published import best_baseline, of_network, published_table
from popdl.report.studies import main, write_studies

FIGURES = [
    {"method": "Their CNN", "network": "cnn", "target": "event_time", "metric": "rmse", "value": 123.4, "source": "A 2019"},
    {"method": "Their <line>", "baseline": "ridge_sfs", "target": "recent_size", "metric": "r2", "value": 0.5, "source": "B"},
    {"method": "Their best", "target": "change", "metric": "accuracy", "value": 0.75, "source": "C"},
]  # fmt: skip
REPLICATED = {
    **{f"{network}/{number}": error for network, error in (("exchangeable", 0.3), ("cnn", 0.5)) for number in range(2)},
    **{name: error for name, error in ERRORS.items() if "/" not in name},
    "exchangeable/ensemble": 0.3, "cnn/ensemble": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    made_up = study(applications=False, published=FIGURES, training={"replicates": 2})
    results = fabricate(folder / "results" / "fabricated", made_up, errors=REPLICATED, num_test=150)
    make_figures(results=results.folder, study=made_up, output=results.figures)
    write_report(results=results.folder, study=made_up, output=results.report)
    (folder / "fabricated.yaml").write_text(study_text(made_up))
    return folder, made_up, results, json.loads(results.metrics.read_text())


def value_of(metrics, model, target, metric):
    return metrics["models"][model]["targets"][target]["metrics"][metric]["value"]


def test_a_figure_stands_beside_the_method_that_repeats_it(finished):
    _, made_up, _, metrics = finished
    cnn, ridge, best = published_table(made_up, metrics)
    values = [value_of(metrics, f"cnn/{number}", "event_time", "rmse") for number in range(2)]
    assert cnn["ours"].value == pytest.approx(np.mean(values)) and cnn["ours"].spread == pytest.approx(
        np.std(values, ddof=1)
    )
    assert (cnn["ours"].name, cnn["ours"].number, cnn["repeated"]) == ("cnn", 2, True)
    assert (ridge["ours"].name, ridge["ours"].value) == (
        "ridge_sfs",
        value_of(metrics, "ridge_sfs", "recent_size", "r2"),
    )
    assert (best["ours"].name, best["repeated"]) == ("exchangeable", False)


def test_the_best_baseline_has_the_smallest_error_or_the_largest_share(finished):
    metrics = finished[3]
    assert best_baseline(metrics, "event_time", "rmse").name == "boosted_trees"
    assert best_baseline(metrics, "change", "accuracy").value == max(
        value_of(metrics, name, "change", "accuracy")
        for name, model in metrics["models"].items()
        if model["kind"] == "baseline"
    )


def test_natural_units_are_named_where_the_target_is_a_logarithm(finished):
    _, made_up, _, metrics = finished
    figures = [{**FIGURES[1], "metric": metric} for metric in ("r2", "natural_r2", "natural_rmse")]
    rows = published_table(
        made_up.model_copy(update={"published": [Published(**figure) for figure in figures]}), metrics
    )
    assert [row["label"].endswith(" (log10)") for row in rows] == [True, False, False]
    assert rows[1]["ours"].value == value_of(metrics, "ridge_sfs", "recent_size", "natural_r2") != rows[0]["ours"].value
    errors = [value_of(metrics, name, "recent_size", "natural_rmse") for name in ("ridge_sfs", "boosted_trees")]
    assert best_baseline(metrics, "recent_size", "natural_rmse").value <= min(errors)


def test_an_undefined_metric_gives_no_mean(finished):
    metrics = json.loads(json.dumps(finished[3]))
    metrics["models"]["cnn/1"]["targets"]["event_time"]["metrics"]["rmse"]["value"] = None
    assert of_network(metrics, "cnn", "event_time", "rmse") is None


def test_the_report_shows_it(finished):
    page = finished[2].report.read_text()
    assert "What others have published" in page and "<td>123.4</td>" in page
    assert "Their &lt;line&gt;" in page, "text of a config is no HTML"


def test_the_pages_of_studies_have_the_numbers_of_the_metrics(finished, tmp_path):
    folder, _, _, metrics = finished
    other = yaml.safe_load((folder / "fabricated.yaml").read_text()) | {"study": "not_run"}
    (folder / "not_run.yaml").write_text(yaml.safe_dump(other))
    configs = [folder / "fabricated.yaml", folder / "not_run.yaml"]
    page = tmp_path / "docs" / "studies.md"
    write_studies(configs, results=folder / "results", output=page)
    text = page.read_text()
    row = next(line for line in text.splitlines() if "Time of the change | RMSE | cnn" in line).split(" | ")
    mean = np.mean([value_of(metrics, f"cnn/{number}", "event_time", "rmse") for number in range(2)])
    spread = np.std([value_of(metrics, f"cnn/{number}", "event_time", "rmse") for number in range(2)], ddof=1)
    ours, deviation = (float(part.replace(",", "")) for part in row[6].split(" ± "))
    assert ours == pytest.approx(mean, rel=0.02) and deviation == pytest.approx(spread, rel=0.1)
    assert row[4] == "123.4 (Their CNN)" and "(boosted_trees)" in row[5] and row[7] == "2.62 min |"
    assert "**Not run yet:** not_run." in text

    (link,) = set(re.findall(r"\]\((studies/.*?md)\)", text))
    own = page.parent / link
    text = own.read_text()
    assert metrics["verdict"]["sentences"][0] in text and "| Their CNN |" in text
    linked = re.findall(r"\]\((\.\./.*?)\)", text)
    assert len(linked) == 3, "the table, and two figures"
    for path in linked:
        assert (own.parent / path).stat().st_size > 500


def test_results_of_another_config_are_refused(finished, tmp_path, capsys):
    folder = finished[0]
    values = yaml.safe_load((folder / "fabricated.yaml").read_text())
    values["networks"], values["published"] = {"mlp": {}}, []
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(values))
    output = tmp_path / "studies.md"
    arguments = [str(tmp_path / "other.yaml"), "--results", str(folder / "results"), "--output", str(output)]
    assert main(arguments) == 2 and not output.exists()
    assert "expected results for the targets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "size"}, r"published\.0\.target: 'size' is no target"),
        ({"metric": "auc"}, r"published\.0\.metric: event_time is scored by r2, rmse, mae, pearson, found auc"),
        (
            {"target": "change", "metric": "natural_r2", "network": None},
            r"published\.0\.metric: change is scored by accuracy, auc, found natural_r2",
        ),
        ({"network": "cn"}, r"published\.0\.network: 'cn' is no network; did you mean 'cnn'"),
        (
            {"network": None, "baseline": "ridge"},
            r"published\.0\.baseline: 'ridge' is no baseline; did you mean 'ridge_sfs'",
        ),
        ({"baseline": "ridge_sfs"}, "a network or a baseline, not both"),
        ({"source": ""}, r"published\.0\.source"),
        ({"year": 2019}, r"published\.0\.year: unknown key"),
    ],
)
def test_a_figure_that_fits_nothing_is_refused(tmp_path, changes, message):
    with pytest.raises(PopdlError, match=message):
        study(published=[{**FIGURES[0], **changes}])

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
from popdl.plan import Plan, SimulationPlan, plan_values
from popdl.plots.figures import make_figures
from popdl.report import write_report
from popdl.report.published import best_baseline, of_network, published_table
from popdl.report.studies import main, write_studies
from popdl.training_cost import NetworkMemory, TrainingCost

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
    assert "## Full sizes" not in text, "no study of these has a small size"
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
    assert len(linked) == 4, "the table, and three figures"
    assert "It needs no files" in text
    for path in linked:
        assert (own.parent / path).stat().st_size > 500


def full_and_small(tmp_path, name, **changes):
    """Configs of a study in two sizes, of which the full one reads a file."""
    paths = []
    for size in (name, f"{name}_small"):
        values = yaml.safe_load(study_text(study(applications=False, published=[], **changes))) | {"study": size}
        paths.append(tmp_path / f"{size}.yaml")
        paths[-1].write_text(yaml.safe_dump(values))
    return paths


def cells_of(text, study_name):
    """The row of a study in the table of full sizes."""
    section = text.partition("## Full sizes")[2]
    return next(line for line in section.splitlines() if line.startswith(f"| {study_name} |")).strip("| ").split(" | ")


def test_full_sizes_say_what_they_cost_and_how_far_they_were_run(finished, tmp_path):
    folder = finished[0]
    (results := tmp_path / "results").mkdir()
    (results / "fabricated").symlink_to(folder / "results" / "fabricated")
    begun = results / "begun"
    for shard in (0, 1, 4):
        (begun / "simulations.zarr" / f"shard_{shard}").mkdir(parents=True)
    (begun / "models" / "cnn").mkdir(parents=True)
    for name in ("1.safetensors", "1.history.csv", "ensemble.json"):
        (begun / "models" / "cnn" / name).touch()
    made_up = SimulationPlan(
        num_examples=3000, num_sources=1, num_datasets=1, num_pilot=9, pilot_seconds=1.0, error=1.0, seconds=np.array([3.0, 9.0]),
        corner=({}, 1.0), encode_seconds=0.6, raw_bytes=4e6, encoded_bytes=1e6, shard_memory=1e9, suggested_shard_size=100, limit="time",
    )  # fmt: skip
    costs = {"cnn": TrainingCost(4, 1000, 500, 7200.0), "exchangeable": TrainingCost(4, 1000, 500, 3600.0)}
    memory = {"cnn": NetworkMemory(1000, 10**9, 0)}
    plan = Plan("begun", 3000, 500, made_up, packed_bytes=10**9, networks=memory, training=costs, num_baselines=2)
    (begun / "plan.json").write_text(json.dumps(plan_values(plan)))
    (begun / "dry_run.txt").write_text("job      count\n-----  -------\ntrain        8\ntotal     1234\n")
    configs = [
        path
        for name in ("fabricated", "begun", "waiting")
        for path in full_and_small(tmp_path, name, training={"replicates": 2})
    ]
    write_studies(configs, results=results, output=tmp_path / "studies.md")
    text = (tmp_path / "studies.md").read_text()
    assert "**Not run yet:** fabricated_small, begun_small, waiting_small." in text, (
        "full sizes have a table of their own"
    )
    assert cells_of(text, "fabricated")[-1] == "whole"
    # 3,000 examples of 6.6 s are 5.5 h; trainings take 3 h, and 1,000 fresh examples 1.83 h.
    assert cells_of(text, "begun") == [
        *("begun", "3,000", "1,234", "5.5 h", "4.83 h", "15 GB", "2.42 GB", "3 of 6 shards, 1 of 4 trainings"),
    ]
    assert cells_of(text, "waiting")[2:] == ["–"] * 5 + ["no"]
    (begun / "plan.json").write_text(json.dumps(plan_values(plan) | {"format_version": 99}))
    with pytest.raises(PopdlError, match=r"plan\.json: expected a plan of version 1, found 99; plan the study again"):
        write_studies(configs, results=results, output=tmp_path / "studies.md")


def test_what_must_be_known_stands_beside_the_figures(finished, tmp_path):
    folder, made_up, _, metrics = finished
    figures = [
        {**FIGURES[0], "value": 0.001, "remark": "Theirs is another."},
        {**FIGURES[0], "value": 1e9, "remark": "Theirs is another."},
        {**FIGURES[2], "value": 0.001},
        {**FIGURES[2], "value": 0.999, "remark": "Of the best of ten."},
    ]
    values = yaml.safe_load(study_text(made_up)) | {"published": figures, "remark": "Baselines see more."}
    values["baseline_statistics"] = ["pi", "sfs"]
    values["simulation"]["recombination_rate"] = {"map": "resources/map.txt.gz", "build": "GRCh37"}
    values["splits"] = values["splits"] | {
        "file": "resources/splits.tsv",
        "train": None,
        "validation": None,
        "test": None,
    }
    config = tmp_path / "fabricated.yaml"
    config.write_text(yaml.safe_dump(values))
    write_studies([config], results=folder / "results", output=tmp_path / "studies.md")
    table, page = (tmp_path / "studies.md").read_text(), (tmp_path / "studies" / "fabricated.md").read_text()
    for text in (table, page):
        rows = [line for line in text.splitlines() if "| Their CNN |" in line or "| Their best |" in line]
        reached = [("| yes |" in row, "| no |" in row) for row in rows]
        assert reached == [(False, True), (True, False), (True, False), (False, True)]
        assert text.count("Theirs is another.") == 1 and "*Their best*: Of the best of ten." in text
        assert metrics["verdict"]["sentences"][0] in text and ("Baselines see more." in text) == (
            metrics["verdict"]["outcome"] != "better" or text is page
        )
        assert "Of the summary statistics, baselines read pi, sfs and no others." in text
    assert "It reads `resources/map.txt.gz` and `resources/splits.tsv`: [where from]" in page


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

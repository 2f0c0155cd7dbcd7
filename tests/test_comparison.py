"""Predictions along a genome beside a recombination map."""

from __future__ import annotations

import msprime
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from fabricated import fabricate, study
from test_evaluation import ERRORS

from popdl.check import check_application
from popdl.comparison import average, compare_with_map, correlations, map_rates
from popdl.config.application import Comparison
from popdl.config.study import build_study, study_text
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.plots.figures import make_figures
from popdl.report import write_report

WINDOW = 20_000
RATES = (1.0, 2.0, 5.0, 4.0, 0.5, 0.1, 20.0, 30.0, 3.0, 0.7)


def write_map(path, *, contig="chr20", rates=RATES, step=WINDOW, start=1):
    """A HapMap map: rates in cM/Mb over pieces of ``step`` bp."""
    positions = start + step * np.arange(len(rates) + 1)
    centimorgan = np.concatenate([[0], np.cumsum(np.array(rates) * step / 1e6)])
    rows = zip(positions, [*rates, 0], centimorgan, strict=True)
    lines = [f"{contig}\t{position}\t{rate:.6f}\t{mass:.6f}" for position, rate, mass in rows]
    path.write_text("\n".join(["Chromosome\tPosition(bp)\tRate(cM/Mb)\tMap(cM)", *lines]) + "\n")
    return path


def windows(values, *, contig="20", size=WINDOW, step=None):
    start = np.arange(len(values)) * (step or size)
    return pd.DataFrame({"contig": contig, "start": start, "end": start + size, "rho": values})


def write_windows(path, table):
    table.to_csv(path, sep="\t", index=False, na_rep=".")
    return path


@pytest.fixture
def rho():
    """Of ten windows that tile the map of :func:`write_map`: 4 · N · r · length, with noise."""
    return 4 * 1e4 * WINDOW * 1e-8 * np.array(RATES) * np.random.default_rng(1).lognormal(0, 0.3, 10)


def compare(tmp_path, tables, **changes):
    settings = {"target": "rho", "map": write_map(tmp_path / "map.txt"), "scales": [4e4], **changes}
    paths = {
        name: write_windows(tmp_path / f"{number}.tsv", table) for number, (name, table) in enumerate(tables.items())
    }
    files = tmp_path / "bins.tsv", tmp_path / "correlations.tsv"
    compare_with_map(paths, comparison=Comparison(**settings), window=WINDOW, output=files[0], table=files[1])
    return [pd.read_csv(file, sep="\t", na_values=["."], dtype={"contig": str}) for file in files]


def test_correlations_are_those_of_scipy_at_every_scale(tmp_path, rho):
    bins, found = compare(tmp_path, {"network/0": windows(rho), "trees": windows(1 / rho)})
    assert list(found["scale"]) == [2e4, 2e4, 4e4, 4e4] and list(found["bins"]) == [10, 10, 5, 5]
    for (scale, method), row in found.set_index(["scale", "method"]).iterrows():
        part = bins[(bins["scale"] == scale) & (bins["method"] == method)]
        values = rho if method == "network/0" else 1 / rho
        expected = values if scale == WINDOW else values.reshape(5, 2).mean(axis=1)
        np.testing.assert_allclose(part["predicted"], expected, rtol=1e-5)
        assert row["pearson"] == pytest.approx(scipy.stats.pearsonr(expected, part["map"])[0], abs=1e-4)
        logs = np.log(expected), np.log(part["map"])
        assert row["pearson_log"] == pytest.approx(scipy.stats.pearsonr(*logs)[0], abs=1e-4)
        assert row["spearman"] == pytest.approx(scipy.stats.spearmanr(expected, part["map"])[0], abs=1e-4)
    own = found[found["method"] == "network/0"].set_index("scale")["pearson_log"]
    assert own[2e4] > 0.9, "what was made from the map goes with it"


def test_units_make_no_difference(tmp_path, rho):
    _, found = compare(tmp_path, {"a": windows(rho), "b": windows(1000 * rho)})
    for _, rows in found.groupby("scale"):
        first, second = rows[["pearson", "pearson_log", "spearman"]].to_numpy()
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("step", [WINDOW, 7_000])
def test_the_mean_of_a_bin_is_that_of_its_bases(step):
    table = windows([1.0, 4.0, np.nan, 2.0, 8.0], step=step)
    edges = np.arange(0, table["end"].max() + 1, 25_000)
    for low, high, mean in zip(edges[:-1], edges[1:], average(table, "rho", edges), strict=True):
        values = [
            row.rho
            for row in table.itertuples()
            if np.isfinite(row.rho)
            for _ in range(max(row.start, low), min(row.end, high))
        ]
        assert mean == pytest.approx(np.mean(values))


def test_a_bin_that_is_mostly_unknown_is_left_out_and_counted(tmp_path, rho):
    rho[[2, 3, 5]] = np.nan
    bins, found = compare(tmp_path, {"a": windows(rho)})
    assert list(found["bins"]) == [7, 4] and list(found["left_out"]) == [3, 1]
    assert bins["predicted"].isna().sum() == 4


def test_map_rates_against_the_map_itself():
    rate_map = msprime.RateMap(position=[0, 100, 250, 400, 1000], rate=[np.nan, 1e-8, 3e-8, 0])
    edges = np.array([0.0, 120, 240, 300, 900, 1000, 1200])
    rates = map_rates(rate_map, edges)
    assert np.isnan(rates[0]) and np.isnan(rates[-1]), "the map knows 20 of 120 bp, and nothing beyond its end"
    assert rates[1] == pytest.approx(1e-8) and rates[2] == pytest.approx((10 * 1e-8 + 50 * 3e-8) / 60)
    assert rates[3] == pytest.approx(100 * 3e-8 / 600) and rates[4] == 0


def test_what_does_not_vary_has_no_correlation():
    assert np.isnan(correlations(np.ones(9), np.arange(1.0, 10))["spearman"])
    assert np.isnan(correlations(np.arange(1.0, 4), np.arange(1.0, 4))["pearson"]), "three bins tell nothing"
    zero = correlations(np.arange(1.0, 7), np.array([0, 1, 2, 3, 4, 5.0]))
    assert (zero["bins"], zero["left_out"]) == (5, 1), "0 has no logarithm"


def test_a_map_of_another_chromosome_and_windows_of_two_are_refused(tmp_path, rho):
    other = write_map(tmp_path / "other.txt", contig="chr2")
    with pytest.raises(PopdlError, match=r"other\.txt: the recombination map is of chr2, but the genome is of 20"):
        compare(tmp_path, {"a": windows(rho)}, map=other)
    two = pd.concat([windows(rho), windows(rho, contig="21")])
    with pytest.raises(PopdlError, match=r"windows lie on 2 contigs \(20, 21\), and a map is of one; give `regions`"):
        compare(tmp_path, {"a": two})
    assert not (tmp_path / "bins.tsv").exists()


def study_with(applications):
    return build_study({**yaml.safe_load(study_text(study())), "applications": applications})


def with_map(**changes):
    compare = {"target": "recent_size", "map": "map.txt", "scales": [2e6], **changes}
    return {"ceu": {"vcf": "chr20.vcf.gz", "build": "GRCh37", "windows": {"size": 1e6}, "compare": compare}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "size"}, r"applications\.ceu\.compare\.target: 'size' is no target"),
        (
            {"target": "event_time"},
            r"compare\.target: a rate is compared on a log scale; set targets\.event_time\.scale",
        ),
        ({"build": "hg38"}, r"compare\.build: hg38, but the genome is of GRCh37"),
        ({"scales": [1e5]}, r"compare\.scales: 100000 bp is shorter than a window \(1e\+06 bp\)"),
        ({"scales": [-1]}, r"compare\.scales"),
        ({"mapp": "x"}, r"compare\.mapp: unknown key; did you mean 'map'"),
    ],
)
def test_a_comparison_that_fits_nothing_is_refused(tmp_path, changes, message):
    with pytest.raises(PopdlError, match=message):
        study_with(with_map(**changes))


def test_windows_by_sites_are_refused(tmp_path):
    applications = with_map()
    applications["ceu"]["windows"] = {"sites": 400}
    with pytest.raises(PopdlError, match=r"compare: a map is compared with windows of one length; give windows\.size"):
        study_with(applications)


@pytest.mark.parametrize(("contig", "message"), [("20", None), ("chr2", "is of chr2, but the genome is of 20")])
def test_a_check_reads_the_map(tmp_path, contig, message):
    applications = with_map(map=str(write_map(tmp_path / "map.txt", contig=contig)))
    applications["ceu"] |= {"regions": ["20:1-4000000"], "vcf": str(tmp_path / "none.vcf.gz")}
    made_up = study_with(applications)
    found = check_application(made_up.applications["ceu"], encoder=Encoder.of(made_up))
    assert len(found) == 1 + bool(message) and (message is None or message in found[-1])


def test_figure_and_report_show_what_the_tables_say(tmp_path):
    step = 1_000_000
    applications = with_map(map=str(write_map(tmp_path / "map.txt", rates=RATES[:5] * 2, step=step)))
    made_up = study_with(applications)
    folder = tmp_path / "results" / "fabricated"
    results = fabricate(folder, made_up, errors=ERRORS, num_test=100)
    files = {name: results.application("ceu") / f"{name}.windows.tsv" for name in ERRORS if "/" in name}
    application = made_up.applications["ceu"]
    compare_with_map(
        files,
        comparison=application.compare,
        window=step,
        output=results.application("ceu") / "comparison.tsv",
        table=results.application("ceu") / "correlations.tsv",
    )
    make_figures(results=folder, study=made_up, output=results.figures)
    write_report(results=folder, study=made_up, output=results.report)
    assert (results.figures / "comparison_ceu.png").stat().st_size > 1000
    page = results.report.read_text()
    found = pd.read_csv(results.application("ceu") / "correlations.tsv", sep="\t")
    assert len(found) == 2 * len(files) and "in each window" in page and "map map.txt" in page
    for row in found.itertuples():
        cells = [f"{value:.2f}".replace("-", "−") for value in (row.pearson, row.pearson_log, row.spearman)]
        line = f'<tr><th scope="row">{row.method}</th><td>{row.scale / 1e6:g} Mb</td><td>{row.bins}</td><td>{row.left_out}</td>'
        assert line + "".join(f"<td>{cell}</td>" for cell in cells) in page

from itertools import pairwise, product

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fabricated import fabricate, study
from matplotlib.figure import Figure
from test_evaluation import ERRORS

from popdl.errors import PopdlError
from popdl.plots import style
from popdl.plots.figures import make_figures
from popdl.plots.genome_track import genome_coordinates, genome_track, probability_track, statistic_track
from popdl.plots.panels import draw_panels
from popdl.plots.parity import DOT, FEW, LARGEST_DOT, MANY, parity
from popdl.plots.priors import prior_bins
from popdl.plots.realism import LIMIT, MAX_ROWS, realism, realism_rows
from popdl.plots.scores import scores
from popdl.realism import LEVELS

SIZE = {"task": "regression", "scale": "log", "label": "Size", "unit": "individuals", "low": 1e3, "high": 1e5}
METRICS = {name: {"value": 0.5} for name in ("r2", "rmse", "bias")}


@pytest.fixture
def ax():
    with matplotlib.rc_context(style.RC):
        yield Figure(figsize=(3, 3)).subplots()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    both = {"applications": ["simulated_genome", "ceu"], "statistics": ["h12", "tajimas_d"]}
    made_up = study(scans={"both": both})
    results = fabricate(folder / "fabricated", made_up, errors=ERRORS, num_test=120)
    make_figures(results=results.folder, study=made_up, output=results.figures)
    return results


def test_every_figure_has_its_numbers(drawn):
    pictures = {path.stem for path in drawn.figures.glob("*.png")}
    assert pictures == {path.stem for path in drawn.figures.glob("*.tsv")}
    assert pictures == {
        "priors", "training", "parity_exchangeable_0", "parity_cnn_0", "baselines", "calibration",
        "by_parameter_recent_size", "by_parameter_event_time", "by_parameter_change",
        "genome_simulated_genome", "genome_ceu", "realism_simulated_genome", "realism_ceu", "scan_both",
    }  # fmt: skip
    for path in drawn.figures.glob("*.png"):
        assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 10_000
        assert len(pd.read_csv(path.with_suffix(".tsv"), sep="\t")) > 0
    assert not list(drawn.figures.glob(".*")), "nothing half-written stays"


def test_figures_repeat_byte_for_byte(drawn, tmp_path):
    from popdl.config.study import load_study

    make_figures(results=drawn.folder, study=load_study(drawn.config), output=tmp_path)
    for path in drawn.figures.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_missing_result_is_named(drawn, tmp_path):
    from popdl.config.study import load_study

    with pytest.raises(PopdlError, match=r"metrics.json: this result is missing"):
        make_figures(results=tmp_path, study=load_study(drawn.config), output=tmp_path / "figures")


def predictions(count):
    generator = np.random.default_rng(1)
    true = 10 ** generator.uniform(3, 5, count)
    predicted = true * 10 ** generator.normal(0, 0.1, count)
    return pd.DataFrame({"s_true": true, "s": predicted, "s_low": predicted / 1.5, "s_high": predicted * 1.5})


def test_parity_shows_diagonal_count_and_units(ax):
    table = predictions(100)
    table.loc[:4, "s_true"] = np.nan
    parity(table, ax, target="s", described=SIZE, metrics=METRICS)
    diagonal = next(line for line in ax.lines if line.get_label() == "truth")
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert ax.get_xlabel() == "True (individuals)" and ax.get_xlim() == ax.get_ylim()
    assert any("n 95 " in text.get_text() for text in ax.texts), "examples without a truth are not counted"


def test_what_lies_beyond_the_axes_is_marked(ax):
    """The edge is 6 % of the range beyond the prior, at about 760 and 132,000."""
    table = pd.DataFrame({"s_true": [2e3, 3e3, 4e3, 5e3], "s": [2e3, 3e3, 4e3, 5e5]})
    table = table.assign(s_low=[1e3, 100.0, 3e3, 4e5], s_high=[3e3, 3e5, 5e3, 6e5])
    parity(table, ax, target="s", described=SIZE, metrics=METRICS)
    marks = [
        (line.get_marker(), line.get_color(), list(line.get_xdata())) for line in ax.lines if len(line.get_xdata())
    ]
    intervals, dots = style.COLOURS["band_dark"], style.COLOURS["network"]
    assert [mark for mark in marks if mark[0] in "v^"] == [
        ("v", intervals, [3e3]), ("^", intervals, [3e3, 5e3]), ("^", dots, [5e3])
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "size"), [(10, LARGEST_DOT), (FEW // 4, 2 * DOT), (FEW, DOT), (MANY, DOT)])
def test_few_dots_are_large(ax, count, size):
    parity(predictions(count), ax, target="s", described=SIZE, metrics=METRICS)
    assert next(line for line in ax.lines if line.get_marker() == ".").get_markersize() == pytest.approx(size)


def test_many_points_are_drawn_as_a_density(ax):
    parity(predictions(MANY + 1), ax, target="s", described=SIZE, metrics=METRICS)
    assert len(ax.collections) == 1 and ax.collections[0].get_array().sum() > 0


@pytest.mark.parametrize(("low", "high"), [(5000, 50000), (80, 4000), (1e-9, 1e-7), (1, 1e9), (900, 1100)])
def test_log_axes_have_readable_ticks(ax, low, high):
    style.scale_axis(ax, "x", low=low, high=high, scale="log")
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_xticklabels() if label.get_text()]
    assert 3 <= len(labels) <= 9
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_labels_of_log_axes_do_not_meet(panels):
    lows, decades = (1e-9, 3.0, 500.0), (1.5, 2, 3, 4, 5, 6, 8)
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH, 30))
        axes = figure.subplots(len(lows) * len(decades), panels, squeeze=False)
        for row, (low, wide) in enumerate(product(lows, decades)):
            for ax in axes[row]:
                style.scale_axis(ax, "x", low=low, high=low * 10**wide, scale="log")
        figure.canvas.draw()
        for ax in axes[:, 0]:
            boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
            assert len(boxes) >= 2
            assert all(before.x1 < after.x0 for before, after in pairwise(boxes))


@pytest.mark.parametrize("decades", [1.5, 2, 2.5, 3, 3.4])
def test_labels_of_one_square_panel_do_not_meet(decades, tmp_path):
    values = np.geomspace(4, 4 * 10**decades, 50)
    table = pd.DataFrame({"s_true": values, "s": values, "s_low": values / 2, "s_high": values * 2})
    drawn, described = [], SIZE | {"low": values[0], "high": values[-1]}

    def paint(name, ax):
        drawn.append(parity(table, ax, target="s", described=described, metrics=METRICS))

    with matplotlib.rc_context(style.RC):
        draw_panels(["s"], paint, tmp_path / "parity", table=table, height=2.75)
        boxes = [label.get_window_extent() for label in drawn[0].get_xticklabels() if label.get_text()]
    assert len(boxes) >= 2
    assert all(before.x1 < after.x0 for before, after in pairwise(boxes))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (5000, "5,000"),
        (1e-8, "1×10⁻⁸"),
        (2.5e7, "2.5×10⁷"),
        (-12.0, "-12"),
        (999999, "999,999"),
    ],
)
def test_numbers_read_as_people_write_them(value, text):
    assert style.number(value) == text


def windows():
    return pd.DataFrame(
        {
            "contig": ["1", "1", "2"],
            "start": [2_000_000, 3_000_000, 500_000],
            "end": [3_000_000, 4_000_000, 1_500_000],
            "s": [2e3, np.nan, 3e3],
            "s_low": [1e3, np.nan, 2e3],
            "s_high": [4e3, np.nan, 5e3],
            "outside_domain": [False, False, True],
        }
    )


def test_a_scan_has_the_statistics_of_each_window(drawn):
    table = pd.read_csv(drawn.figures / "scan_both.tsv", sep="\t", na_values=".")
    for application, part in table.groupby("application"):
        rows = pd.read_csv(drawn.application(application) / "realism.tsv", sep="\t", na_values=".")
        expected = rows[rows["statistic"] == "h12"]["value"].to_numpy()
        predicted = part["recent_size"].notna().to_numpy()
        np.testing.assert_allclose(part["h12"].to_numpy()[predicted], expected[predicted])
        assert part["h12"][~predicted].isna().all()
    assert table.groupby("application")["recent_size"].apply(lambda values: values.isna().sum()).to_dict() == {
        "ceu": 1,
        "simulated_genome": 0,
    }


def test_a_scan_needs_the_same_contigs(drawn, tmp_path):
    from dataclasses import replace

    from popdl.config.study import load_study
    from popdl.outcomes import read_outcomes
    from popdl.plots.genome_figures import _scan

    outcomes = read_outcomes(drawn.folder, load_study(drawn.config))
    moved = {name: table.assign(contig="21") for name, table in outcomes.windows["ceu"].items()}
    with pytest.raises(PopdlError, match=r"scans\.both: ceu has windows on \['21'\], but simulated_genome on \['20'\]"):
        _scan(replace(outcomes, windows={**outcomes.windows, "ceu": moved}), "both", tmp_path)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ({"applications": ["ceuu"]}, r"scans\.lct\.applications: there is no application 'ceuu'; did you mean 'ceu'"),
        (
            {"applications": ["ceu"], "statistics": ["H12"]},
            r"scans\.lct\.statistics: 'H12' is not known; did you mean 'h12'",
        ),
        ({"applications": []}, r"scans\.lct\.applications: expected at least 1"),
    ],
)
def test_a_scan_of_what_is_not_there_is_refused(tmp_path, scan, message):
    with pytest.raises(PopdlError, match=message):
        study(scans={"lct": scan})


def overlapping():
    start = np.array([0, 100_000, 200_000, 600_000])
    table = pd.DataFrame(
        {"contig": "2", "start": start, "end": start + 200_000, "outside_domain": [False, True, False, False]}
    )
    return table.assign(t=["a", "b", "b", None], t_p_a=[0.7, 0.2, 0.1, np.nan], t_p_b=[0.3, 0.8, 0.9, np.nan])


def test_windows_that_overlap_are_drawn_side_by_side(ax):
    placed, _ = genome_coordinates(overlapping())
    np.testing.assert_allclose(placed["from"], [0.05, 0.15, 0.25, 0.6])
    np.testing.assert_allclose(placed["to"], [0.15, 0.25, 0.35, 0.8])
    probability_track(overlapping(), ax, target="t", described={"label": "T", "classes": ["a", "b"]})
    bars = [patch for patch in ax.patches if patch.get_hatch() is None]
    for place, heights in ((0.1, [0.7, 0.3]), (0.2, [0.2, 0.8]), (0.3, [0.1, 0.9]), (0.5, [])):
        over = [bar.get_height() for bar in bars if bar.get_x() <= place < bar.get_x() + bar.get_width()]
        np.testing.assert_allclose(over, heights)
    assert len([patch for patch in ax.patches if patch.get_hatch()]) == 1, "one window lies outside the training domain"


def test_a_statistic_stops_where_it_is_missing_and_marks_what_lies_outside(ax):
    table = overlapping().assign(value=[0.1, 0.4, np.nan, 0.2])
    levels = {1.0: 0.0, 25.0: 0.1, 75.0: 0.2, 99.0: 0.5}
    statistic_track({"ceu": table, "yri": table.assign(value=0.0)}, ax, statistic="h12", simulated=levels)
    line, inside, outside = ax.lines[:3]
    np.testing.assert_allclose(line.get_ydata(), [0.1, 0.4, np.nan, 0.2])
    np.testing.assert_allclose(line.get_xdata(), [0.1, 0.2, 0.3, 0.7])
    assert outside.get_xdata().tolist() == [0.2] and outside.get_markerfacecolor() == "white"
    assert inside.get_markerfacecolor() == line.get_color() != ax.lines[3].get_color()
    assert [patch.get_height() for patch in ax.patches] == pytest.approx([0.5, 0.1]), "the range of the simulations"


def test_contigs_lie_one_after_the_other():
    placed, contigs = genome_coordinates(windows())
    assert contigs == {"1": (2.0, 4.0), "2": (4.0, 5.0)}
    assert placed["left"].tolist() == [2.0, 3.0, 4.0] and placed["right"].tolist() == [3.0, 4.0, 5.0]


def test_a_contig_ends_with_the_last_window_that_has_something_to_show(ax):
    known = pd.Series([False, True, True])
    placed, contigs = genome_coordinates(windows(), known)
    assert contigs == {"1": (3.0, 4.0), "2": (4.0, 5.0)}
    assert placed["left"].tolist() == [2.0, 3.0, 4.0], "windows are where they are, shown or not"
    assert genome_coordinates(windows(), ~known & False)[1] == genome_coordinates(windows())[1]
    one = overlapping()
    probability_track(one, ax, target="t", described={"label": "T", "classes": ["a", "b"]})
    assert ax.get_xlim() == (0.0, 0.4), "the window from 600 to 800 kb has no prediction"


def test_a_scan_has_one_axis_and_calls_statistics_by_their_names(drawn, monkeypatch):
    from popdl.config.study import load_study
    from popdl.outcomes import read_outcomes
    from popdl.plots import genome_figures as figures

    axes = {}

    def draw(panels, paint, path, **kwargs):
        for name in panels:
            axes[name] = Figure().subplots()
            paint(name, axes[name])

    monkeypatch.setattr(figures, "draw_panels", draw)
    outcomes = read_outcomes(drawn.folder, load_study(drawn.config))
    figures._scan(outcomes, "both", drawn.figures)
    spans = [
        table[table["reason"] == ""] for name in outcomes.windows for table in [outcomes.windows[name][outcomes.best]]
    ]
    expected = (min(part["start"].min() for part in spans) / 1e6, max(part["end"].max() for part in spans) / 1e6)
    assert {ax.get_xlim() for ax in axes.values()} == {expected}
    assert (axes["h12"].get_ylabel(), axes["tajimas_d"].get_ylabel()) == ("H12", "Tajima's D")


def test_windows_outside_the_domain_stand_out_and_the_truth_is_drawn(ax):
    genome_track(windows(), ax, target="s", described=SIZE, true=2500.0)
    labels = ax.get_legend_handles_labels()[1]
    assert labels.count("prediction and interval") == 1 and "outside the training domain" in labels
    assert "true value" in labels and "range of the prior" in labels
    assert ax.get_ylabel() == "Size\n(individuals)"


def test_prior_bins_hold_every_draw():
    values = 10 ** np.random.default_rng(1).uniform(3, 5, 999)
    for scale in ("log", "linear"):
        edges, shares = prior_bins(values, scale=scale)
        assert shares.sum() == pytest.approx(1) and len(edges) == len(shares) + 1


def realism_table(names, deviations):
    rows = []
    for name, deviation in zip(names, deviations, strict=True):
        quantiles = np.interp(LEVELS, [0, 50, 100], [-2, 0, 4])
        row = {"contig": "1", "start": 0, "end": 1, "outside_domain": False, "statistic": name, "value": 1.0}
        rows.append(
            row
            | {"deviation": deviation}
            | {f"simulated_{level:g}": q for level, q in zip(LEVELS, quantiles, strict=True)}
        )
    return pd.DataFrame(rows)


def test_bands_are_on_the_scale_of_the_deviations():
    rows = realism_rows(realism_table(["a"], [0.0]))
    assert rows.loc["a", 95.0] == pytest.approx(1.6449) and rows.loc["a", 5.0] == pytest.approx(-1.6449)


def test_what_is_too_far_out_is_drawn_at_the_edge(ax):
    realism(realism_table(["a", "b", "c"], [0.5, np.inf, -40.0]), ax, title="t")
    edge = sorted(x for line in ax.lines for x in line.get_xdata() if abs(x) == LIMIT)
    assert edge == [-LIMIT, LIMIT]


def test_of_many_statistics_those_furthest_out_are_drawn():
    names = [f"s{index}" for index in range(MAX_ROWS + 5)]
    rows = realism_rows(realism_table(names, np.linspace(0, 5, len(names))))
    assert list(rows.index) == names[5:]


def test_the_score_of_a_model_without_one_is_left_blank(ax):
    models = {
        "net": {"kind": "network", "targets": {"s": {"metrics": {"r2": {"value": 0.5, "se": 0.1}}}}},
        "base": {"kind": "baseline", "targets": {"s": {"metrics": {"r2": {"value": None, "se": None}}}}},
    }
    scores(models, ax, target="s", metric="r2", names=["net", "base"], best="net", label="Size", axis="R²")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["net", "base"]
    assert len(ax.containers) == 1


def test_a_baseline_with_a_huge_error_does_not_hide_the_others(ax):
    """Values beyond −1 are arrows with their number, and no error bar passes the edge or 1."""
    measured = {"net": (0.9, 0.2), "wide": (-0.5, 3.0), "bad": (-14.2, 7.0)}
    models = {
        name: {
            "kind": "network" if name == "net" else "baseline",
            "targets": {"s": {"metrics": {"r2": {"value": value, "se": se}}}},
        }
        for name, (value, se) in measured.items()
    }
    scores(models, ax, target="s", metric="r2", names=list(models), best="net", label="Size", axis="R²")
    assert -1.2 <= ax.get_xlim()[0] <= -1 and 1 <= ax.get_xlim()[1] <= 1.05
    arrows = [line for line in ax.lines if line.get_marker() == "<"]
    assert [line.get_ydata()[0] for line in arrows] == [1, 2] and {line.get_xdata()[0] for line in arrows} == {-1.0}
    assert [text.get_text() for text in ax.texts] == ["−14.2"]
    ends = np.concatenate([bar.get_segments()[0][:, 0] for bars in ax.containers for bar in bars[2]])
    assert len(ax.containers) == 2 and ends.min() >= -1 and ends.max() <= 1
    assert "below −1" in ax.get_xlabel()


def test_scores_within_range_have_no_arrow(ax):
    models = {"net": {"kind": "network", "targets": {"s": {"metrics": {"r2": {"value": 0.5, "se": 0.1}}}}}}
    scores(models, ax, target="s", metric="r2", names=["net"], best="net", label="Size", axis="R²")
    assert ax.get_xlabel() == "R²" and not ax.texts and ax.get_xlim()[0] > -0.1

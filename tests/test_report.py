import json
import re
from html.parser import HTMLParser

import pytest
from fabricated import fabricate, study
from test_evaluation import ERRORS

from popdl.errors import PopdlError
from popdl.layout import Results
from popdl.outcomes import Outcomes, read_outcomes
from popdl.plots.figures import make_figures
from popdl.report import write_report
from popdl.report.answers import quality
from popdl.report.bookkeeping import prediction_transforms, references, started_from
from popdl.report.wording import badge, length, measured, number, uncertainty

HOSTILE = '<script>alert("x")</script>'
VOID = {"meta", "img", "br", "link", "hr", "input"}


def make(folder, *, errors, **changes):
    made_up = study(**changes)
    results = fabricate(folder / "fabricated", made_up, errors=errors, num_test=150)
    make_figures(results=results.folder, study=made_up, output=results.figures)
    write_report(results=results.folder, study=made_up, output=results.report)
    return results


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole"), errors={**ERRORS, "exchangeable/0": 0.2})


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A losing network with hostile labels, no genome and no class."""
    errors = {**ERRORS, "exchangeable/0": 0.9, "cnn/0": 0.95}
    targets = {"recent_size": {"scale": "log", "label": HOSTILE, "unit": HOSTILE}}
    return make(
        tmp_path_factory.mktemp("bare"), errors=errors, classification=False, applications=False,
        targets=targets, description=HOSTILE, baseline_statistics=["pi", "sfs"],
    )  # fmt: skip


class Page(HTMLParser):
    """Collects tags, links and headings, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.ids, self.anchors, self.text = [], [], [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.sources += [value for key, value in attributes.items() if key in ("src", "href", "srcset", "action")]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open[-1] != tag and self.open[-1] in ("tr", "td", "th", "p", "li", "thead", "tbody"):
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "pre"):
            self.text.append(data)


def page_of(results):
    return Page(results.report.read_text(encoding="utf-8"))


def words(results):
    return " ".join(" ".join(page_of(results).text).split())


@pytest.mark.parametrize("which", ["whole", "bare"])
def test_the_page_refers_to_nothing_outside_itself(which, request):
    results = request.getfixturevalue(which)
    page = page_of(results)
    assert page.sources and all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    assert {source[1:] for source in page.sources if source[0] == "#"} <= set(page.ids), "links lead somewhere"
    text = results.report.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", text)
    assert "script" not in page.tags and "link" not in page.tags


def test_the_first_screen_answers_three_questions(whole):
    text = words(whole)
    order = [text.index(question) for question in ("What was asked?", "What is the answer", "Can it be trusted here?")]
    assert order == sorted(order) and order[-1] < text.index("What was believed about each target")
    assert "The network exchangeable/0 beats the best baseline on every target." in text
    assert "5,000 to 50,000 individuals" in text and "50 haplotypes × 1 Mb" in text
    assert "Partly unlike the simulations" in text and "missing_fraction" in text


def test_every_part_is_there(whole):
    page, text = page_of(whole), words(whole)
    sections = [
        "priors",
        "training",
        "accuracy",
        "baselines",
        "calibration",
        "genomes",
        "realism",
        "dropped",
        "made",
        "config",
        "cite",
    ]
    assert [name for name in page.ids if name in sections] == sections
    assert page.tags.count("img") == len(list(whole.figures.glob("*.png")))
    for fact in (
        "not a SNV",
        "multiallelic",
        "no prediction: 0 sites, 1 needed",
        "torch 2.13.0",
        "Seed 7",
        "simulate",
        "Flagel",
    ):
        assert fact in text, fact
    assert "networks: exchangeable" in " ".join(whole.report.read_text(encoding="utf-8").split())


def test_run_times_are_summed_by_step(whole):
    assert re.search(r"simulate 2 59.8 61 ", words(whole)), "two jobs, CPU and wall seconds"


def test_hostile_labels_are_text(bare):
    text = bare.report.read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text
    assert HOSTILE in words(bare), "and the reader sees them as they are"


def test_what_is_missing_has_no_heading(bare):
    page, text = page_of(bare), words(bare)
    assert not {"genomes", "realism"} & set(page.ids)
    assert "Predictions along the genome" not in text and "Log loss" not in text
    assert "This study names no genome" in text


def test_a_losing_network_says_so_before_anything_else(bare):
    text = words(bare)
    assert "Worse than a baseline" in text and "worse than the best baseline" in text
    assert text.index("worse than the best baseline") < text.index("R²")
    assert "beats the best baseline" not in text


def test_what_baselines_may_not_read_stands_beside_the_verdict(whole, bare):
    text = words(bare)
    limited = text.index("Of the summary statistics, baselines read pi, sfs and no others.")
    assert text.index("worse than the best baseline") < limited < text.index("R²")
    assert "Of the summary statistics" not in words(whole)


def test_a_missing_figure_is_named(whole, tmp_path):
    picture = whole.figures / "calibration.png"
    content = picture.read_bytes()
    picture.unlink()
    try:
        from popdl.config.study import load_study

        with pytest.raises(PopdlError, match=r"calibration.png: this figure is missing"):
            write_report(results=whole.folder, study=load_study(whole.config), output=tmp_path / "report.html")
    finally:
        picture.write_bytes(content)
    assert not (tmp_path / "report.html").exists()


def test_numbers_and_lengths():
    assert [number(value) for value in (None, float("nan"), 12345.6, -0.01234)] == ["–", "–", "12,300", "−0.0123"]
    assert [length(value) for value in (1e6, 2.5e6, 20000, 999)] == ["1 Mb", "2.5 Mb", "20 kb", "999 bp"]
    assert measured(0.87132, 0.0125) == "0.871" and uncertainty(0.0125) == "± 0.013"
    assert measured(384.2, 17.6) == "384" and measured(-1e-17, 0.0164) == "−0.000" and measured(0.5, None) == "0.5"


def test_each_published_network_is_cited_once(tmp_path):
    networks = {"spidna": {}, "wide": {"name": "custom_cnn"}, "definetti": {}, "mlp": {}}
    made_up = study(applications=False, networks=networks)
    cited = references(Outcomes(made_up, Results(tmp_path), {}, {}, {}, {}, {}, None))
    assert sum("10.1111/1755-0998.13224" in paper for paper in cited) == 1
    assert sum("NeurIPS 31: 8594" in paper for paper in cited) == 1
    assert not any("Flagel" in paper for paper in cited)


def test_too_few_scenarios_are_said_on_the_first_screen(tmp_path):
    made_up = study(applications=False)
    results = fabricate(tmp_path / "fabricated", made_up, errors=ERRORS, num_test=7)
    outcomes = read_outcomes(results.folder, made_up)
    outcomes.metrics["models"][outcomes.best]["targets"]["event_time"] |= {"n": 6, "num_missing": 1}
    rows = {row["label"]: row for row in quality(outcomes)}
    assert {(row["badge"].state, row["badge"].text, row["against"]) for row in rows.values()} == {
        ("warn", "cannot be said", "")
    }
    assert rows["Time of the change"]["detail"].endswith("on 6 that have a value")
    assert "have a value" not in rows["Recent size"]["detail"]
    assert badge(outcomes.metrics["verdict"]["outcome"]).text == "Too few test scenarios to say"


def test_fine_tuning_and_transforms_in_prediction_are_said(tmp_path):
    made_up = study(applications=False)
    results = fabricate(tmp_path / "fabricated", made_up, errors=ERRORS, num_test=30)
    outcomes = read_outcomes(results.folder, made_up)
    assert started_from(outcomes) == [] and prediction_transforms(outcomes) == []
    path = results.model("cnn/0")
    card = json.loads(json.loads(path.read_bytes()[8:])["__metadata__"]["popdl"])
    card["initialised_from"] = {"sha256": "0123456789abcdef", "study": "earlier", "network": "flagel"}
    steps = [["crop", {"sites": 300, "length": None, "where": "centre"}], ["polymorphic", {}]]
    card["transforms"] = {
        "prediction": [{"name": name, "options": options, "source": None, "sha256": None} for name, options in steps]
    }
    header = json.dumps({"__metadata__": {"popdl": json.dumps(card)}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    make_figures(results=results.folder, study=made_up, output=results.figures)
    write_report(results=results.folder, study=made_up, output=results.report)
    text = words(results)
    assert "cnn/0, from the network flagel of the study earlier (sha256 0123456789ab…)" in text
    assert "Whether it was trained on examples of the test split is not known" in text
    assert "cnn/0 saw what transforms.prediction makes" in text
    assert "in this order: crop (sites: 300, where: centre); polymorphic." in text
    assert text.count("from the network") == 1, "the other network started from chance"

"""Choosing individuals."""

from pathlib import Path

import pytest

from popdl.config.application import Samples
from popdl.errors import PopdlError
from popdl.importers.samples import choose_samples

AVAILABLE = [f"s{number}" for number in range(10)]
PANEL = "sample\tpop\tsuper_pop\n" + "".join(
    f"s{number}\t{'CEU' if number % 2 else 'YRI'}\t{'EUR' if number % 2 else 'AFR'}\n" for number in reversed(range(10))
)


def choose(available=AVAILABLE, seed=1, **settings):
    return choose_samples(Samples(**settings), available, seed=seed, path=Path("some.vcf"))


@pytest.fixture
def panel(tmp_path):
    path = tmp_path / "some.panel"
    path.write_text(PANEL)
    return path


def test_no_settings_mean_everyone():
    assert choose_samples(None, AVAILABLE, seed=1, path=Path("some.vcf")) == AVAILABLE


def test_names_and_files_keep_their_order(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("s7\n\ns2 \n")
    assert choose(names=["s7", "s2"]) == choose(file=path) == ["s7", "s2"]


def test_a_population_is_in_the_order_of_the_vcf(panel):
    assert choose(panel=panel, population="CEU") == ["s1", "s3", "s5", "s7", "s9"]
    assert choose(panel=panel, column="super_pop", population="AFR") == ["s0", "s2", "s4", "s6", "s8"]


@pytest.mark.parametrize("text", [PANEL.replace("\t", ","), PANEL.replace("\t", " "), PANEL.replace("\n", "\r\n")])
def test_panels_come_in_several_styles(panel, text):
    panel.write_text(text)
    assert choose(panel=panel, population="CEU") == ["s1", "s3", "s5", "s7", "s9"]


def test_a_number_is_drawn_by_the_seed(panel):
    first = choose(panel=panel, population="CEU", number=3)
    assert first == choose(panel=panel, population="CEU", number=3)
    assert len(set(first)) == 3
    assert first == sorted(first)
    assert len({tuple(choose(seed=seed, panel=panel, population="CEU", number=3)) for seed in range(20)}) > 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["s1", "s11"]}, r"samples.names: 1 of 2 samples are not in some.vcf, e.g. s11; did you mean 's1'\?"),
        ({"names": ["s1", "s2", "s1"]}, "the sample 's1' is named twice"),
        ({"names": []}, "names no samples"),
        ({"names": ["s1", "s2"], "number": 3}, "2 samples, but samples.number asks for 3"),
        ({"file": Path("nowhere.txt")}, "nowhere.txt: cannot read the samples: No such file"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(PopdlError, match=message):
        choose(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": "FIN"}, "no sample has pop 'FIN'; known: CEU, YRI"),
        ({"population": "EUR", "column": "superpop"}, "no column 'superpop'; did you mean 'super_pop'"),
        ({"population": "CEU", "number": 6}, "pop 'CEU': 5 samples, but samples.number asks for 6"),
        ({"population": "CEU", "available": AVAILABLE[:5]}, r"3 of 5 samples are not in some.vcf, e.g. s9, s7, s5"),
    ],
)
def test_what_is_refused_of_a_panel(panel, settings, message):
    with pytest.raises(PopdlError, match=message):
        choose(panel=panel, **settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the panel is empty"),
        ("sample\tpop\ns1\n", "line 2: 1 columns, expected 2"),
        ("sample\tpop\ns1\tCEU\ns1\tCEU\n", "'s1' is named twice"),
    ],
)
def test_damaged_panels_are_refused(panel, text, message):
    panel.write_text(text)
    with pytest.raises(PopdlError, match=message):
        choose(panel=panel, population="CEU")


def test_a_panel_that_is_not_text(panel):
    panel.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PopdlError, match="not a text file"):
        choose(panel=panel, population="CEU")

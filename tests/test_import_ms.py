"""ms text: what it says is what is imported, and what it should not say is refused with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import imported

from popdl.config.base import validate
from popdl.config.study import import_section
from popdl.errors import PopdlError
from popdl.formats._base import Label
from popdl.importing import import_shard, survey
from popdl.ms_text import read_replicates
from popdl.store import read_shard

PLAIN = """\
./ms 4 3 -t 7.5 -r 2 1000
1 2 3

//
segsites: 3
positions: 0.1000 0.2000 0.9000
010
110
001
000

//
segsites: 0

//
segsites: 1
positions: 0.5000
1
0
1
1
"""
# Two outputs joined, as Flagel et al. (2019) published theirs: a header before each replicate, no blank line after the first.
JOINED = """\
./ms 4 1 -t 5.5
1 2 3

//
segsites: 2
positions: 0.1 0.2
01
11
00
00
./ms 4 1 -t 6.5
4 5 6

//
segsites: 0
"""
TBS = """\
ms 4 2 -t tbs -r tbs 1000
1 2 3

//\t3.5\t0.25
segsites: 1
positions: 0.5
1
0
0
0

//\t4.5\t0.75
segsites: 0
"""
# Trees, times and probabilities before the sites; a line of its own after them (msms -SFC, scrm -oSFS).
TALKATIVE = """\
msms 4 1 -t 2 -T -L
0xcafe

//
[1000]((1:0.1,2:0.1):0.2,(3:0.1,4:0.1):0.2);
time:\t0.3\t0.8
prob: 0.25
segsites: 2
positions: 0.25 0.75
10
01
00
11
OriginCount:1
"""


def section(files: Any, **changes: Any) -> dict[str, Any]:
    return {
        "format": "ms",
        "files": [str(path) for path in files] if isinstance(files, list) else str(files),
        "parameters": {"theta": {"flag": "-t"}},
        "num_haplotypes": 4,
        "sequence_length": 1000,
        "num_scenarios": 3,
        **changes,
    }


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["sims.txt", "sims.txt.gz"])
def test_one_header(tmp_path: Path, name: str) -> None:
    found = imported(section(write(tmp_path / name, PLAIN)))
    first, empty, last = (labelled.example for labelled in found)
    # Sites × haplotypes: the columns of the text.
    np.testing.assert_array_equal(first.genotypes, [[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(first.positions, [100, 200, 900])
    assert empty.genotypes.shape == (0, 4) and empty.positions.shape == (0,)
    np.testing.assert_array_equal(last.genotypes, [[1, 0, 1, 1]])
    assert [labelled.labels for labelled in found] == [{"theta": 7.5}] * 3


def test_a_header_before_every_replicate(tmp_path: Path) -> None:
    found = imported(section(write(tmp_path / "joined.txt", JOINED), num_scenarios=2))
    assert [labelled.labels["theta"] for labelled in found] == [5.5, 6.5]
    assert [len(labelled.example.positions) for labelled in found] == [2, 0]


def test_values_of_tbs_come_from_the_replicate(tmp_path: Path) -> None:
    parameters = {"theta": {"flag": "-t"}, "rho": {"flag": "-r"}, "sites": {"flag": "-r", "value": 2}}
    found = imported(section(write(tmp_path / "tbs.txt", TBS), num_scenarios=2, parameters=parameters))
    assert [labelled.labels for labelled in found] == [
        {"theta": 3.5, "rho": 0.25, "sites": 1000},
        {"theta": 4.5, "rho": 0.75, "sites": 1000},
    ]


def test_other_lines_are_passed_over(tmp_path: Path) -> None:
    (found,) = imported(section(write(tmp_path / "msms.txt", TALKATIVE), num_scenarios=1))
    np.testing.assert_array_equal(found.example.genotypes, [[1, 0, 0, 1], [0, 1, 0, 1]])


def test_folders_and_file_names_are_classes(tmp_path: Path) -> None:
    """Files in natural order, each with the class of its folder or of the start of its name."""
    write(tmp_path / "hard/10.txt", JOINED)
    write(tmp_path / "hard/9.txt", PLAIN)
    write(tmp_path / "neutral_2.txt.gz", PLAIN)
    parameters = {"kind": {"folder": ["neutral", "soft", "hard"]}, "theta": {"flag": "-t"}}
    files = [tmp_path / "hard/*.txt", tmp_path / "neutral_2.txt.gz"]
    values = section(files, num_scenarios=8, parameters=parameters)
    assert import_section(values).priors["kind"].classes == ["neutral", "soft", "hard"]
    found = imported(values)
    assert [labelled.labels["kind"] for labelled in found] == [2] * 5 + [0] * 3
    assert [labelled.labels["theta"] for labelled in found] == [7.5] * 3 + [5.5, 6.5] + [7.5] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", "size\tkind\n10\tsoft\nNA\thard\n1e3\t\n"),
        ("labels.csv", "kind,size\nsoft,10\nhard,\n,1e3\n"),
        ("labels.json", json.dumps([{"size": 10, "kind": "soft"}, {"size": None, "kind": "hard"}, {"size": 1e3, "kind": None}])),
        ("labels.json", json.dumps({"size": [10, None, 1000], "kind": ["soft", "hard", ""]})),
    ],
)  # fmt: skip
def test_tables_of_every_kind_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    table = write(tmp_path / name, text)
    parameters = {"size": {}, "kind": {"classes": ["soft", "hard"]}}
    found = imported(section(write(tmp_path / "a.txt", PLAIN), table=str(table), parameters=parameters))
    np.testing.assert_array_equal([labelled.labels["size"] for labelled in found], [10, np.nan, 1000])
    np.testing.assert_array_equal([labelled.labels["kind"] for labelled in found], [0, 1, np.nan])


def test_replicates_share_a_row(tmp_path: Path) -> None:
    table = write(tmp_path / "labels.tsv", "size\n10\n20\n")
    files = [write(tmp_path / "a.txt", PLAIN), write(tmp_path / "b.txt", PLAIN)]
    found = imported(section(files, num_scenarios=2, replicates=3, table=str(table), parameters=["size"]))
    assert [labelled.labels["size"] for labelled in found] == [10, 10, 10, 20, 20, 20]


def test_shards_cut_across_files(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{number}.txt.gz", PLAIN) for number in range(3)]
    importer = import_section(section(files, num_scenarios=9, shard_size=4))
    found, whole = survey(importer), imported(section(files, num_scenarios=9))
    start = 0
    for shard, size in enumerate((4, 4, 1)):
        import_shard(importer, found, seed=1, shard=shard, output=tmp_path / f"shard_{shard}")
        read = read_shard(tmp_path / f"shard_{shard}", kind="simulations")
        assert read.attributes["first_example"] == start and read.attributes["num_examples"] == size
        expected = [labelled.example for labelled in whole[start : start + size]]
        np.testing.assert_array_equal(read["genotypes"], np.concatenate([example.genotypes for example in expected]))
        np.testing.assert_array_equal(read["positions"], np.concatenate([example.positions for example in expected]))
        np.testing.assert_array_equal(read["scenario"], np.arange(start, start + size))
        start += size
    with pytest.raises(PopdlError, match="shard 3: the import has 9 examples"):
        import_shard(importer, found, seed=1, shard=3, output=tmp_path / "shard_3")


def test_rounded_positions_are_moved_apart() -> None:
    """Sites that print alike are different sites, and stay inside the window."""
    text = ["//", "segsites: 6", "positions: 0.0 0.5 0.5 0.5 1.0 1.0", "010101", "101010"]
    (replicate,) = read_replicates(
        (f"{line}\n".encode() for line in text), num_haplotypes=2, sequence_length=1000, where="text"
    )
    positions = replicate.example.positions
    assert (np.diff(positions) > 0).all()
    np.testing.assert_allclose(positions, [0, 500, 500, 500, 1000, 1000], atol=1e-9)
    assert positions[0] >= 0 and positions[-1] <= 1000


def test_flagel_et_al_array_for_array(data: Path) -> None:
    """The 5,000 replicates of Flagel et al. (2019) become their published tensors: first the test, then the training set."""
    folder = data / "flagel_theta"
    with np.load(folder / "theta_sim.npz", allow_pickle=False) as published:
        matrices = np.concatenate([published["xtest"], published["xtrain"]])
        thetas = np.concatenate([published["ytest"], published["ytrain"]])
    found = imported(
        section(
            folder / "theta.sims.txt.gz",
            parameters={"theta": {"column": "value"}, "printed": {"flag": "-t"}},
            table=str(folder / "true.thetas.json"),
            num_haplotypes=40,
            num_scenarios=5000,
        )
    )
    assert len(found) == len(matrices) == 5000
    for labelled, matrix, theta in zip(found, matrices, thetas, strict=True):
        genotypes = labelled.example.genotypes
        np.testing.assert_array_equal(genotypes, matrix[: len(genotypes)])
        assert not matrix[len(genotypes) :].any()
        assert labelled.labels["theta"] == theta
        assert labelled.labels["printed"] == pytest.approx(theta, rel=1e-10)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("segsites: 3", "segsites: x", "line 5: segsites 'x', expected a whole number"),
        ("segsites: 3", "segsites: 4", "line 6: 3 positions, expected 4"),
        ("0.2000", "0.2x", "line 6: a position is not a number"),
        ("0.2000", "nan", "line 6: positions must be fractions"),
        ("0.9000", "1.9", "line 6: positions must be fractions"),
        ("0.1000 0.2000", "0.2 0.1", "line 6: positions must not decrease"),
        ("110\n", "11\n", r"line 8: '11' has 2 characters, expected haplotype 2 of 4"),
        ("110\n", "1N0\n", "line 8: allele 'N' at site 2, expected 0 or 1"),
        ("000\n\n//", "\n//", r"line 10: '' has 0 characters, expected haplotype 4 of 4"),
        ("000\n\n", "000\n111\n\n", "line 11: haplotype 5, but num_haplotypes is 4"),
        ("1\n1\n", "1\n", "the text ends after 3 of 4 haplotypes of the replicate in line 15"),
        ("positions: 0.5000\n1\n0\n1\n1\n", "", "the text ends before the positions of the replicate in line 15"),
        ("segsites: 1\npositions: 0.5000\n1\n0\n1\n1\n", "", "the text ends after '//' in line 15"),
        ("-t 7.5", "-s 7", "line 4: there is no -t in the command line"),
        ("-t 7.5", "-t x", "value 1 of -t is 'x'"),
        ("-t 7.5", "-t tbs", "value 1 of -t is 'tbs'"),
        ("./ms 4 3 -t 7.5 -r 2 1000\n", "", "there is no -t in the text, which has no command line"),
        ("//", "/", "there is no line that starts with '//'"),
    ],
)  # fmt: skip
def test_bad_text_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAIN
    path = write(tmp_path / "bad.txt", PLAIN.replace(old, new) if old == "//" else PLAIN.replace(old, new, 1))
    with pytest.raises(PopdlError, match=message) as refusal:
        imported(section(path))
    assert str(refusal.value).startswith(str(path))


def test_a_replicate_without_sites_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.txt", PLAIN.replace("segsites: 3\n", "//\n", 1))
    with pytest.raises(PopdlError, match="line 5: a second '//' after that of line 4"):
        imported(section(path, num_scenarios=4))


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "sims.txt.gz", PLAIN)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(PopdlError, match=r"sims\.txt\.gz: the compressed file is cut short or damaged"):
        imported(section(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_scenarios": 4}, "write num_scenarios: 3"),
        ({"replicates": 2}, r"import\.replicates: the data holds 3 examples, which is no multiple of 2"),
        ({"files": "nothing_*.txt"}, r"there is no file nothing_\*\.txt"),
        ({"parameters": ["size"]}, "table: give the file with the labels size"),
        ({"parameters": {"size": {"flag": "-t", "column": "a"}}}, "give one of column, flag, metadata and folder"),
        ({"parameters": {"size": {"metadata": "size"}}}, "format ms has no `metadata`"),
        ({"parameters": {"size": {"folder": ["a", "b"], "classes": ["a", "b"]}}}, "leave out `classes`"),
        ({"parameters": {"size": {"folder": ["a", "b"]}}}, "expected exactly one of a, b as a folder"),
        ({"parameters": ["size", "size"]}, "a name is there twice"),
        ({"num_haplotypes": 5}, r"expected a multiple of the ploidy \(2\), found 5"),
        ({"file": "x"}, r"file: unknown key; did you mean 'files'\?"),
        ({"format": "msm"}, r"'msm' is not one of popdl's formats; did you mean 'ms'\?"),
    ],
)
def test_bad_configs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    values = {**section(write(tmp_path / "sims.txt", PLAIN)), **changes}
    with pytest.raises(PopdlError, match=message):
        imported(values)


def test_rows_must_fit_the_replicates(tmp_path: Path) -> None:
    table = write(tmp_path / "labels.tsv", "size\n10\n20\n")
    values = section(write(tmp_path / "a.txt", PLAIN), table=str(table), parameters=["size"])
    with pytest.raises(PopdlError, match="2 rows of labels, but the files hold 3 replicates of 3 scenarios"):
        imported(values)


def test_replicates_with_different_parameters_are_refused(tmp_path: Path) -> None:
    importer = import_section(section(write(tmp_path / "a.txt", JOINED), num_scenarios=1, replicates=2))
    with pytest.raises(PopdlError, match=r"line 14: its parameters differ .* correct import\.replicates"):
        import_shard(importer, survey(importer), seed=1, shard=0, output=tmp_path / "shard_0")


def test_a_file_that_changes_between_survey_and_import_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", PLAIN)
    importer = import_section(section(path))
    found = survey(importer)
    write(path, JOINED)
    with pytest.raises(PopdlError, match="2 of the 3 examples from 0 on were found; the data has changed"):
        import_shard(importer, found, seed=1, shard=0, output=tmp_path / "shard_0")


@pytest.mark.parametrize(
    ("classes", "word", "value"),
    [(["a", "b"], "b", 1.0), ([100, 2000], "2e3", 2000.0), (None, "1e-3", 1e-3), (["a", "b"], "NA", None)],
)
def test_words_become_numbers(classes: list[Any] | None, word: str, value: float | None) -> None:
    found = validate(Label, {"classes": classes}, where="label").number(word, name="x", where="here")
    assert found == value or (value is None and np.isnan(found))


@pytest.mark.parametrize(("classes", "word"), [(["a", "b"], "c"), ([1, 2], "3"), (["a", "b"], "1"), (None, "a")])
def test_words_that_mean_nothing_are_refused(classes: list[Any] | None, word: str) -> None:
    label = validate(Label, {"classes": classes}, where="label")
    with pytest.raises(PopdlError, match=f"here: x is '{word}', expected"):
        label.number(word, name="x", where="here")

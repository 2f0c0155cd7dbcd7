"""What a model says of itself: in full, and in the list of a folder."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import learnable
import pytest
from crafted import edited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popdl.cards import card_text, model_table, sources_text
from popdl.cli import main
from popdl.config.study import load_study
from popdl.errors import PopdlError
from popdl.model import publish_model, read_card

PRIORS = {"parameters": {"size": {"loguniform": [10, 40]}}, "mutation_rate": 1e-8}
ABOUT = {"authors": ["Ada L.", "Sewall W."], "licence": "CC-BY-4.0", "citation": "Someone (2026)"}
SCORES = {
    "net/0": {"kind": "network", "targets": {"size": {"metrics": {"r2": {"value": 0.81234, "se": 0.02}}}}},
    "ridge": {"kind": "baseline", "targets": {"size": {"metrics": {"r2": {"value": 0.5, "se": None}}}}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def folder(data: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a study leaves it: a trained model, the published one, and a checkpoint."""
    folder = tmp_path_factory.mktemp("results")
    about = {**ABOUT, "simulator": "size_change"}
    path = learnable.fit(data, folder / "models", about=about, priors=PRIORS)["output"]
    (folder / "metrics.json").write_text(
        json.dumps({"best_network": "net/0", "num_test_examples": 24, "models": SCORES})
    )
    publish_model({"net/0": path}, metrics=folder / "metrics.json", output=folder / "model.safetensors")
    (folder / "models/.0.checkpoint").mkdir()
    (folder / "models/.0.checkpoint/last.safetensors").write_bytes(b"a training under way")
    return folder


def test_a_card_says_all_that_a_colleague_asks(folder: Path) -> None:
    path = folder / "model.safetensors"
    text, card = card_text(path), read_card(path)
    for line in (
        r"size +\S+ to \S+ in training, log scale",
        r"kind +one of even, rare",
        "8 haplotypes × ≤ 24 sites of 1,000 bp, minor alleles, haplotypes as given, positions as distance",
        r"size +loguniform \[10, 40\]",
        r"mutation_rate +1e-08",
        "examples simulated by size_change",
        r"network +ridge",
        r"size  R²  0\.8123 ± 0\.02  0\.5",
        "on 24 examples; intervals aim at 90%",
        r"exchangeable, [\d,]+ parameters; weights of epoch \d of 4",
        r"authors +Ada L\., Sewall W\.",
        r"licence +CC-BY-4\.0",
        r"citation +Someone \(2026\)",
        f"weights +SHA-256 {card['weights_sha256']}",
        r"with +popdl \S+, torch \S+",
    ):
        assert re.search(line, text), line
    assert "Code of its author" not in text


def test_a_card_without_scores_or_terms_says_so(data: dict, tmp_path: Path) -> None:
    text = card_text(learnable.fit(data, tmp_path)["output"])
    assert "not in this file: `popdl evaluate` writes it" in text
    assert "its author names no licence" in text


def test_a_card_says_where_a_fine_tuned_model_started(folder: Path, tmp_path: Path) -> None:
    def edit(card: dict) -> None:
        card["initialised_from"] = {
            **{"sha256": "ab" * 32, "study": "old", "network": "spidna", "num_body": 1200, "num_taken": 1100},
            **{"fresh": ["body.last"], "targets": {"size": "taken", "kind": ["even"]}},
        }

    path = edited(folder / "model.safetensors", tmp_path / "model.safetensors", edit)
    assert re.search(rf"fine-tuned +from a spidna of study old, SHA-256 {'ab' * 32}\n", card_text(path))
    assert "1,100 of 1,200 numbers of its body taken; targets: size taken, kind taken for [even]" in card_text(path)
    assert "fine-tuned" not in card_text(folder / "model.safetensors")


def test_a_card_of_imported_data_shows_no_labels_as_priors(folder: Path, tmp_path: Path) -> None:
    def edit(card: dict) -> None:
        card["about"] = {"format": {"name": "dnadna", "source": None, "sha256": None}}
        card["priors"] = {"parameters": {"size": {"value": 1.0, "low": None}}}

    text = card_text(edited(folder / "model.safetensors", tmp_path / "model.safetensors", edit))
    assert "not known, as the data were imported" in text and "value 1" not in text
    assert re.search(r"size +\S+ to \S+ in training, log scale", text)


def test_a_card_shows_what_is_done_before_a_prediction(folder: Path, tmp_path: Path) -> None:
    part = {"name": "crop", "options": {"sites": 12, "where": "centre", "length": None}, "source": None, "sha256": None}

    def edit(card: dict) -> None:
        card["transforms"] = {"train": [], "prediction": [part, {**part, "name": "polymorphic", "options": {}}]}

    text = card_text(edited(folder / "model.safetensors", tmp_path / "model.safetensors", edit))
    assert "transformed for prediction by crop (sites: 12, where: centre), then polymorphic\n" in text


def test_a_folder_is_listed_whole(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "flipped.safetensors").write_bytes(content)
    (copy / "cut.safetensors").write_bytes(content[:-10])
    (copy / "foreign.safetensors").write_bytes(b"PK\x03\x04 something")
    text = model_table(copy)
    table, damaged = text.split("3 of 5 files cannot be used:\n")
    header, *rows = table.splitlines()
    assert re.split(" {2,}", header) == [
        *("model", "predicts", "network", "reads", "test accuracy", "size", "popdl", "date", "licence")
    ]
    assert [re.split(" {2,}", row)[:3] for row in rows] == [
        ["model.safetensors", "size, kind", "exchangeable"],
        ["models/model.safetensors", "size, kind", "exchangeable"],
    ]
    assert "size R² 0.8123" in rows[0] and rows[0].endswith(f"{time.strftime('%Y-%m-%d')}  CC-BY-4.0")
    assert re.search(r"flipped\.safetensors: .*its weights do not have the SHA-256", damaged)
    assert re.search(r"cut\.safetensors: .*bytes of weights", damaged)
    assert re.search(r"foreign\.safetensors: .*a pickle or torch file", damaged)
    assert "checkpoint" not in text


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match="there is no model file"):
        model_table(tmp_path)


def test_nothing_in_a_card_reaches_the_terminal_as_a_command(folder: Path, tmp_path: Path) -> None:
    evil = "\x1b[2J\u202e\r\n"

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {f"{key}{evil}": poison(item) for key, item in value.items()}
        return evil if isinstance(value, str) else value

    def edit(card: dict) -> None:
        for key in ("about", "metrics", "priors", "versions", "study", "dataset", "num_examples"):
            card[key] = poison(card[key])
        card["about"] |= {"licence": evil, "citation": evil, "authors": [evil]}
        card["targets"]["size"]["unit"] = evil

    path = edited(folder / "model.safetensors", tmp_path / "model.safetensors", edit)
    text = card_text(path) + model_table(tmp_path)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "\\x1b[2J" in text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(max_size=3), children, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_card_holds_it_is_shown_or_refused(folder: Path, tmp_path: Path, data: st.DataObject) -> None:
    def edit(card: dict) -> None:
        place = card
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if not (isinstance(place[key], dict) and place[key] and data.draw(st.booleans())):
                place[key] = data.draw(VALUES)
                return
            place = place[key]

    path = edited(folder / "model.safetensors", tmp_path / "model.safetensors", edit)
    assert "model.safetensors" in model_table(tmp_path)
    with suppress(PopdlError):
        assert card_text(path)


def test_the_simulators_source_travels_along_and_is_not_needed(data: dict, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("print('simulating')\n")
    path = learnable.fit(data, tmp_path, about={"simulator": "mine.py:Mine"})["output"]
    Path("mine.py").unlink()
    assert sources_text(path) == "# mine.py\nprint('simulating')\n"
    assert "examples simulated by mine.py:Mine" in card_text(path)
    from popdl.model import load_model

    load_model(path, trust=lambda part: pytest.fail("asked"))


def test_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "model.safetensors"
    main(["card", str(path)])
    assert capsys.readouterr().out == card_text(path)
    main(["card", str(path), "--json"])
    assert json.loads(capsys.readouterr().out) == read_card(path)
    main(["models", str(folder)])
    assert capsys.readouterr().out == model_table(folder)
    with pytest.raises(SystemExit):
        main(["card", str(path), "--source"])
    assert "carries no code of its author" in capsys.readouterr().err


def test_a_study_names_its_terms(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    extra = "authors: [Ada L.]\nlicence: CC0\ncitation: none\n"
    path.write_text((root / "config/test.yaml").read_text() + extra)
    about = load_study(path).about
    assert about == {"authors": ["Ada L."], "licence": "CC0", "citation": "none", "simulator": "size_change"}
    assert load_study(root / "config/test.yaml").about == {"simulator": "size_change"}

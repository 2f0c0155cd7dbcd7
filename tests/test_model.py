"""The model file against damage and malice: whatever the bytes, a model that predicts or one clear refusal."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import learnable
import numpy as np
import pytest
import torch
from crafted import craft, parts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popdl.errors import PopdlError
from popdl.loader import PackedData
from popdl.model import load_model, publish_model, read_card, save_model
from popdl.prediction import predict_arrays


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    return learnable.fit(data, tmp_path_factory.mktemp("trained"))["output"]


def changed(card, keys, value):
    card = copy.deepcopy(card)
    place = card
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return card


def test_a_saved_model_predicts_the_same(path, data, tmp_path):
    model = load_model(path)
    card = {key: value for key, value in model.card.items() if key not in ("format_version", "weights_sha256")}
    save_model(tmp_path / "copy.safetensors", model.module, card)
    packed = PackedData.from_shards(data["shards"])
    rows = np.arange(packed.num_examples)
    again = predict_arrays([load_model(tmp_path / "copy.safetensors")], packed, rows)
    assert again.equals(predict_arrays([model], packed, rows))
    assert not model.module.training


def test_a_card_is_read_without_torch(path):
    code = f"import sys; from pathlib import Path; from popdl.model import read_card; print(read_card(Path({str(path)!r}))['study'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["learnable", "False"]


def test_another_program_can_read_the_file(path):
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["popdl"]) == read_card(path)
        assert all(np.isfinite(file.get_tensor(name)).all() for name in file.keys())  # noqa: SIM118


SCORES = {
    "net/0": {"kind": "network", "targets": {"size": {"n": 24, "metrics": {"r2": 0.5}}}},
    "net/1": {"kind": "network", "targets": {"size": {"n": 24, "metrics": {"r2": 0.3}}}},
    "ridge": {"kind": "baseline", "targets": {"size": {"n": 24, "metrics": {"r2": 0.4}}}},
}


def test_publishing_adds_the_metrics_and_keeps_the_weights(path, tmp_path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(json.dumps({"best_network": "net/0", "num_test_examples": 24, "models": SCORES}))
    output = tmp_path / "model.safetensors"
    publish_model({"net/0": path, "net/1": tmp_path / "other"}, metrics=metrics, output=output)
    card = read_card(output)
    baselines = {"ridge": {"size": {"metrics": {"r2": 0.4}}}}
    network = {"model": "net/0", "num_test_examples": 24, **SCORES["net/0"]}
    assert card.pop("metrics") == {**network, "baselines": baselines}
    assert card == read_card(path)
    weights = load_model(path).module.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in load_model(output).module.state_dict().items())


def test_publishing_an_unknown_network_is_refused(path, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"best_network": "cnn/0", "models": {}}))
    with pytest.raises(PopdlError, match=r"best_network is 'cnn/0', expected one of net/0"):
        publish_model({"net/0": path}, metrics=tmp_path / "metrics.json", output=tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a model file of popdl"),
        (b"short", "expected a model file of popdl"),
        (b"PK\x03\x04\x00\x00\x08\x08" + bytes(100), "a pickle or torch file, which popdl never opens"),
        (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00.", "a pickle or torch file, which popdl never opens"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "expected a model file of popdl"),
        (b"\xff" * 8 + b"{}", "expected a model file of popdl"),
        ((2).to_bytes(8, "little") + b"[]", "its header is not JSON"),
        ((2).to_bytes(8, "little") + b"\xff\xfe", "its header is not JSON"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "its header is not JSON"),
        ((2).to_bytes(8, "little") + b"{}", "not a model of popdl"),
    ],
)
def test_foreign_files_are_refused(tmp_path, content, message):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    for read in (read_card, load_model):
        with pytest.raises(PopdlError, match=message):
            read(file)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(PopdlError, match=r"none\.safetensors: the model cannot be read: No such file"):
        load_model(tmp_path / "none.safetensors")


def test_every_truncation_is_refused(path, tmp_path):
    content = path.read_bytes()
    file = tmp_path / "model.safetensors"
    for length in [*range(0, len(content) - 1, 997), len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(PopdlError, match=r"model\.safetensors"):
            load_model(file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_flipped_byte_is_refused(path, tmp_path, place, value):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= value
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    for read in (load_model, lambda path: read_card(path, verify=True)):
        with pytest.raises(PopdlError, match=r"model\.safetensors: "):
            read(file)


def test_models_of_version_1_have_no_hash_of_their_header(path, tmp_path):
    header, card, weights = parts(path)
    craft(tmp_path / "model.safetensors", header, card | {"format_version": 1}, weights)
    content = (tmp_path / "model.safetensors").read_bytes().replace(b'"sha256": "', b'"sha25_": "')
    (tmp_path / "model.safetensors").write_bytes(content)
    assert read_card(tmp_path / "model.safetensors", verify=True)["study"] == "learnable"
    assert load_model(tmp_path / "model.safetensors").card["format_version"] == 1


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format_version"], 3, "format version 3, this popdl reads up to 2; install a newer popdl"),
        (["targets"], {}, "its card is not valid: targets"),
        (["targets", "size", "sd"], 0.0, "targets.size has no mean and sd"),
        (["targets", "kind", "classes"], ["one"], "targets.kind has fewer than two classes"),
        (["positions"], None, "its transforms and the positions in its card contradict"),
        (["positions", "sd"], -1.0, "positions.sd"),
        (["shape", "num_haplotypes"], 9, "encoding recipe and the shape in its card contradict"),
        (["shape", "max_sites"], 10**12, "are too many"),
        (["shape", "max_sites"], 10**400, "are too many"),
        (["encoding", "version"], 99, "found version 99"),
        (["encoding", "settings", "max_sites"], 1000, "does not have the fingerprint"),
        (["network", "name"], "os", "is not one of popdl's networks"),
        (["network", "name"], "/etc/passwd.py:Evil", "does not carry the source of '/etc/passwd.py:Evil'"),
        (["network", "options", "head"], [10**15], r"tensor '.*' has the shape"),
        (["network", "options", "head"], [10**30], "cannot be built"),
        (["network", "options", "dropout"], "x", "cannot be built"),
        (["weights_sha256"], "0" * 64, "do not have the SHA-256"),
        (["intervals"], None, "intervals"),
    ],
)
def test_hostile_cards_are_refused(path, tmp_path, keys, value, message):
    header, card, weights = parts(path)
    file = craft(tmp_path / "model.safetensors", header, changed(card, keys, value), weights)
    with pytest.raises(PopdlError, match=message):
        load_model(file)


def test_numbers_that_are_none_are_refused(path, tmp_path):
    header, card, weights = parts(path)
    file = craft(tmp_path / "model.safetensors", header, changed(card, ["validation_loss"], float("nan")), weights)
    with pytest.raises(PopdlError, match="NaN is no number"):
        read_card(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [10**12]}, "description of tensor"),
        ({"dtype": "F64"}, "description of tensor"),
        ({"dtype": "PICKLE"}, "description of tensor"),
        ({"data_offsets": [-4, 0]}, "description of tensor"),
        ({"data_offsets": [0]}, "description of tensor"),
        ({"shape": "x"}, "description of tensor"),
        (None, "overlap or leave gaps|bytes of weights"),
        ({"shape": [0], "data_offsets": [0, 0]}, "overlap or leave gaps|bytes of weights"),
    ],
)
def test_hostile_tensors_are_refused(path, tmp_path, change, message):
    header, card, weights = parts(path)
    if change is None:
        del header["heads.linear.bias"]
    else:
        header["heads.linear.bias"] |= change
    with pytest.raises(PopdlError, match=message):
        load_model(craft(tmp_path / "model.safetensors", header, card, weights))


def test_a_missing_or_renamed_tensor_is_named(path, tmp_path):
    header, card, weights = parts(path)
    header["other"] = header.pop("heads.linear.bias")
    with pytest.raises(PopdlError, match=r"heads\.linear\.bias"):
        load_model(craft(tmp_path / "model.safetensors", header, card, weights))


PLUGIN = """
from pathlib import Path

from popdl.networks._base import Network

Path("ran").touch()


class Mine(Network):
    def __init__(self, settings, shape):
        super().__init__(settings, shape)
        self.num_features = shape.num_haplotypes

    def forward(self, genotypes, positions, mask):
        return genotypes.mean(dim=2)
"""


@pytest.fixture(scope="module")
def own(data, tmp_path_factory):
    """A model with a network of its author's, of which nothing has been imported."""
    folder = tmp_path_factory.mktemp("author")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Line ends of Windows: the hash is that of the file, not of a text read from it.
        Path("mine.py").write_bytes(PLUGIN.replace("\n", "\r\n").encode())
        return learnable.fit(data, folder, options={"name": "mine.py:Mine"})["output"]


def forget(path):
    """Let the next import of a model's plugin run it again."""
    sys.modules.pop(f"popdl_plugin_{read_card(path)['network']['sha256']}", None)


def test_the_source_of_a_plugin_travels_along_but_runs_only_where_its_user_put_it(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = read_card(own)["network"]["source"]
    for text in (None, "raise SystemExit('this must not run')", source.replace("mean", "sum")):
        forget(own)
        if text is not None:
            Path("mine.py").write_bytes(text.encode())
        with pytest.raises(PopdlError, match=r"needs code of its author, 'mine\.py' \(SHA-256 [0-9a-f]{64}\)"):
            load_model(own)
        assert not Path("ran").exists()
    Path("mine.py").write_bytes(source.encode())
    assert load_model(own).module.body.num_features == learnable.HAPLOTYPES
    assert Path("ran").exists()


def test_a_trusted_source_is_loaded_from_the_model_whatever_lies_at_its_path(own, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("raise SystemExit('this must not run')")
    forget(own)
    asked = []

    def trust(part):
        assert not Path("ran").exists()
        asked.append(part)
        return True

    model = load_model(own, trust=trust)
    assert [part.file for part in asked] == ["mine.py"]
    assert Path("ran").exists()
    packed = PackedData.from_shards(data["shards"])
    rows = np.arange(packed.num_examples)
    monkeypatch.chdir(own.parent)
    assert predict_arrays([model], packed, rows).equals(predict_arrays([load_model(own)], packed, rows))


def test_a_tampered_plugin_is_refused_even_if_trusted(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget(own)
    header, card, weights = parts(own)
    for keys, value in (
        (["network", "source"], PLUGIN + "print('mine')"),
        (["network", "source"], "\ud800"),
        (["network", "sha256"], "0" * 64),
    ):
        file = craft(tmp_path / "model.safetensors", header, changed(card, keys, value), weights)
        for read in (read_card, lambda path: load_model(path, trust=lambda part: True)):
            with pytest.raises(PopdlError, match=r"the source of 'mine\.py:Mine' does not have the SHA-256"):
                read(file)
    assert not Path("ran").exists()


def test_a_model_without_plugins_asks_nothing(path):
    assert load_model(path, trust=lambda part: pytest.fail("asked")).card["network"]["source"] is None

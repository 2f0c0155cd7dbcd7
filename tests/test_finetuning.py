"""Starting a training from a model: what is taken, what is fresh, and what the first prediction is."""

from __future__ import annotations

import dataclasses
import hashlib

import learnable
import numpy as np
import pandas as pd
import pytest
import torch

from popdl.config.encoding import Encoding
from popdl.config.training import Splits, Target, Training
from popdl.dataset import encode_shard, open_shards
from popdl.errors import PopdlError
from popdl.finetuning import Start
from popdl.loader import PackedData
from popdl.model import load_model, read_card, read_weights, save_model
from popdl.module import PopdlModule, predict_outputs
from popdl.scaling import TargetScaling
from popdl.seen import MOST_DIGESTS, Seen
from popdl.splits import make_splits, read_splits

NEW_TARGETS = {
    "kind": Target(task="classification", class_weights="balanced"),
    "share": Target(scale="linear"),
    "size": Target(scale="log", loss="mae"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return learnable.dataset(tmp_path_factory.mktemp("learnable"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    training = learnable.TRAINING.model_copy(update={"max_epochs": 25, "patience": 25})
    return learnable.fit(data, tmp_path_factory.mktemp("trained"), training=training)["output"]


@pytest.fixture(scope="module")
def changed(data, tmp_path_factory):
    """The same data with other targets."""
    return learnable.with_targets(data, tmp_path_factory.mktemp("changed"), NEW_TARGETS)


def begun(trained, scaling: TargetScaling, options=learnable.OPTIONS) -> tuple[PopdlModule, dict]:
    """A new module that has started from the model, and what the card says about it."""
    model = load_model(trained)
    start = Start.read(trained, fingerprint=model.card["fingerprint"])
    torch.manual_seed(99)
    module = PopdlModule(
        "net",
        options,
        shape=model.module.body.shape,
        targets=scaling.to_json(),
        position_scaling=start.positions_instead_of(
            dataclasses.replace(model.module.position_scaling, mean=0.0, sd=1.0)
        ),
    )
    return module, start.give(module, key="net", network=options["name"])


def test_a_changed_target_set_starts_from_the_same_body(trained, changed):
    model = load_model(trained)
    module, card = begun(trained, TargetScaling.read(changed["targets"]))
    for name, tensor in model.module.body.state_dict().items():
        assert torch.equal(module.body.state_dict()[name], tensor), name
    assert module.position_scaling == model.module.position_scaling
    assert card["targets"] == {"kind": "taken", "share": "fresh", "size": "taken"}
    assert card["fresh"] == [] and card["num_taken"] == card["num_body"]
    assert card["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()


def test_the_first_prediction_is_that_of_the_old_model_in_natural_units(trained, data):
    """The new training split has another mean and standard deviation; outputs are rewritten for them."""
    model = load_model(trained)
    old = TargetScaling.from_json(model.card["targets"])
    size = dataclasses.replace(
        old.targets["size"], mean=old.targets["size"].mean + 0.7, sd=3.1 * old.targets["size"].sd
    )
    kind = dataclasses.replace(old.targets["kind"], classes=["rare", "new", "even"])
    new = TargetScaling({"kind": kind, "size": size})
    module, card = begun(trained, new)
    assert card["targets"] == {"kind": ["rare", "even"], "size": "taken"}
    packed, rows = PackedData.from_shards(data["shards"]), torch.arange(40)
    before = predict_outputs(model.module, packed, rows, batch_size=64).double().numpy()
    after = predict_outputs(module, packed, rows, batch_size=64).double().numpy()
    np.testing.assert_allclose(size.to_natural(after[:, 3]), old.targets["size"].to_natural(before[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(after[:, [2, 0]], before[:, 1:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"scale": "linear"}, {"circular": 60.0}, {"task": "classification", "classes": ["even", "rare"]}]
)
def test_a_target_that_means_something_else_starts_afresh(trained, change):
    old = TargetScaling.from_json(read_card(trained)["targets"])
    module, card = begun(trained, TargetScaling({"size": dataclasses.replace(old.targets["size"], **change)}))
    assert card["targets"] == {"size": "fresh"}
    assert (module.heads.linear.weight == 0).all()  # the mean, whatever the features
    assert (load_model(trained).module.heads.linear.weight != 0).all()


def test_weights_of_other_shapes_are_fresh_and_counted(trained, changed, caplog):
    caplog.set_level("INFO")
    module, card = begun(trained, TargetScaling.read(changed["targets"]), {**learnable.OPTIONS, "head": [20]})
    sizes = {f"body.{name}": tensor.numel() for name, tensor in module.body.state_dict().items()}
    assert card["fresh"] and all(name in sizes for name in card["fresh"])
    assert card["num_body"] == sum(sizes.values())
    assert card["num_taken"] == card["num_body"] - sum(sizes[name] for name in card["fresh"])
    assert set(card["targets"].values()) == {"fresh"}  # they read 20 new features, not 16 trained ones
    assert f"{card['num_taken']} of {card['num_body']} numbers of the body taken" in caplog.text


def test_fine_tuning_starts_below_scratch_and_says_so_in_the_card(trained, changed, tmp_path):
    few = Training(batch_size=16, max_epochs=2, learning_rate=1e-3)
    scratch = learnable.fit(changed, tmp_path / "scratch", training=few)
    tuned = learnable.fit(changed, tmp_path / "tuned", training=few.model_copy(update={"initialise_from": trained}))
    losses = [pd.read_csv(outputs["history"])["validation_loss"] for outputs in (scratch, tuned)]
    assert (losses[1] < 0.8 * losses[0]).all()
    card = read_card(tuned["output"])
    assert card["initialised_from"]["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()
    assert card["positions"] == read_card(trained)["positions"]
    assert str(trained) not in str(card)
    assert "initialised_from" not in read_card(scratch["output"])


def test_a_network_of_its_own_may_start_from_its_own_model(trained, data, tmp_path):
    training = learnable.TRAINING.model_copy(update={"max_epochs": 1, "initialise_from": {"other": trained}})
    assert "initialised_from" not in read_card(learnable.fit(data, tmp_path, training=training)["output"])
    assert training.start_of("other") == trained and training.start_of("net") is None


def test_another_network_is_refused(trained, changed):
    with pytest.raises(PopdlError, match=r"holds the network exchangeable .* whose weights do not fit networks.net"):
        begun(trained, TargetScaling.read(changed["targets"]), {"name": "mlp"})


def test_another_encoding_is_refused(trained, data, tmp_path):
    encode_shard(data["shards"][0].parent / "raw_0", tmp_path / "shard_0", encoding=Encoding(max_sites=20), seed=1)
    (shard,) = open_shards([tmp_path / "shard_0"])
    with pytest.raises(PopdlError, match="trained with another encoding than this study has"):
        Start.read(trained, fingerprint=shard.attributes["fingerprint"])


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(PopdlError, match="a pickle or torch file"):
        Start.read(tmp_path / "model.safetensors", fingerprint="x")


ONE_EPOCH = Training(batch_size=16, max_epochs=1, learning_rate=1e-3)


def split_otherwise(data, folder, *, seed: int = 1, **shares):
    """The same shards and targets with other splits."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"shards": data["shards"], "splits": folder / "splits.tsv", "targets": folder / "targets.json"}
    make_splits(
        paths["shards"],
        settings=Splits(**{"train": 0.6, "validation": 0.2, "test": 0.2, **shares}),
        targets=learnable.TARGETS,
        seed=seed,
        output=paths["splits"],
        targets_output=paths["targets"],
    )
    return paths


@pytest.mark.parametrize("other", [{"seed": 2}, {"train": 0.3, "test": 0.5}])
def test_a_test_split_that_the_base_was_trained_on_is_refused(trained, data, tmp_path, other):
    moved = split_otherwise(data, tmp_path / "splits", **other)
    before, now = (read_splits(paths["splits"])["split"].to_numpy() for paths in (data, moved))
    number = np.count_nonzero((before == "train") & (now == "test"))
    assert number > 0
    tuning = ONE_EPOCH.model_copy(update={"initialise_from": trained})
    with pytest.raises(PopdlError, match=rf"was trained on examples .* test split \({number} of the .* `seed` \(3\)"):
        learnable.fit(moved, tmp_path, training=tuning)
    assert not (tmp_path / "model.safetensors").exists()


def test_shards_that_are_cut_otherwise_hold_the_same_examples(trained, tmp_path):
    """The base is refused by what the data are, not by how they are stored."""
    whole = learnable.dataset(tmp_path / "data", num_shards=1)
    moved = split_otherwise(whole, tmp_path / "splits", seed=2)
    with pytest.raises(PopdlError, match="was trained on examples that are now in the test split"):
        learnable.fit(moved, tmp_path, training=ONE_EPOCH.model_copy(update={"initialise_from": trained}))


def test_models_hand_on_what_they_have_seen(trained, data, changed, tmp_path):
    """A third model is refused the examples of the first, though the second was never trained on them."""
    base, table = read_card(trained), read_splits(data["splits"])
    lists = {name: table["scenario"][table["split"] == name].tolist() for name in ("train", "validation", "test")}
    fewer = split_otherwise(data, tmp_path / "fewer", **{**lists, "train": lists["train"][:20]})
    tuning = ONE_EPOCH.model_copy(update={"initialise_from": trained})
    second = learnable.fit(fewer, tmp_path / "second", training=tuning)["output"]
    card = read_card(second)
    assert card["initialised_from"]["test_split"] == "unseen"
    for split, number in (("train", 72), ("validation", 24)):
        digests = [Seen.from_json(known["seen"][split], path=trained).digests for known in (base, card)]
        assert set(digests[0].tolist()) <= set(digests[1].tolist())
        assert base["seen"][split]["num_examples"] == number and base["seen"][split]["complete"]
    moved = split_otherwise(data, tmp_path / "moved", seed=2)
    with pytest.raises(PopdlError, match="was trained on examples that are now in the test split"):
        learnable.fit(moved, tmp_path, training=ONE_EPOCH.model_copy(update={"initialise_from": second}))


def test_a_model_that_does_not_say_what_it_has_seen_still_loads(trained, data, tmp_path, caplog):
    card, tensors = read_weights(trained)
    module = load_model(trained).module
    module.load_state_dict(tensors)
    save_model(tmp_path / "old.safetensors", module, {key: value for key, value in card.items() if key != "seen"})
    moved = split_otherwise(data, tmp_path / "moved", seed=2)
    tuning = ONE_EPOCH.model_copy(update={"initialise_from": tmp_path / "old.safetensors"})
    tuned = read_card(learnable.fit(moved, tmp_path / "tuned", training=tuning)["output"])
    assert tuned["initialised_from"]["test_split"] == "not known" and tuned["seen"] is None
    assert "it is not known whether this model was trained on examples of the test split" in caplog.text


def test_of_many_examples_the_smallest_digests_decide_for_certain(tmp_path):
    random = np.random.default_rng(1)
    first, second, other = random.integers(1, 2**64, size=(3, 3 * MOST_DIGESTS), dtype=np.uint64)
    both = Seen.of(first) | Seen.of(second)
    both = Seen.from_json(both.to_json(), path=tmp_path)
    assert not both.complete and len(both.digests) == MOST_DIGESTS and both.num_examples == 6 * MOST_DIGESTS
    every = np.concatenate([first, second])
    np.testing.assert_array_equal(both.holds(every), both.decided(every))
    assert 0.45 * MOST_DIGESTS < np.count_nonzero(both.decided(other)) < 0.55 * MOST_DIGESTS
    assert not both.holds(other).any()


def test_damaged_digests_are_refused(tmp_path):
    values = Seen.of(np.arange(1, 4, dtype=np.uint64)).to_json()
    for damaged in ({"digests": "abc"}, {"digests": values["digests"][:-4]}, {"digests": "", "complete": False}):
        with pytest.raises(PopdlError, match="`seen` in its card is damaged"):
            Seen.from_json({**values, **damaged}, path=tmp_path)

"""Networks that know which population each row belongs to, and what a model's card says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import learnable
import numpy as np
import pytest
import torch
from crafted import edited

from popdl.cards import card_text
from popdl.config.study import build_study
from popdl.config.transforms import Transforms
from popdl.errors import PopdlError
from popdl.loader import PackedData
from popdl.model import load_model, read_card
from popdl.networks._base import InputShape, build, check
from popdl.networks.exchangeable import Exchangeable
from popdl.networks.haplotype_pairs import HaplotypePairs
from popdl.prediction import predict_arrays
from popdl.study_check import check_study
from popdl.transforms._pipeline import Pipelines

COUNTS = (5, 3)
SHAPE = InputShape(num_haplotypes=8, max_sites=48, has_positions=True, populations=COUNTS)
VARIANTS = {
    "exchangeable": {},
    "exchangeable_haplotypes": {"name": "exchangeable", "per_site": [], "homozygosity": 0, "pool": ["max"]},
    "exchangeable_sites": {"name": "exchangeable", "per_haplotype": [], "after_pool": [], "head": []},
    "definetti": {"phi": [["conv", 3, 4]], "g": ["mean", ["attention", 2]], "h": [["conv", 3, 4], ["fc", 8]]},
    "definetti_dense": {"name": "definetti", "phi": [["fc", 6]], "g": ["sort", ["top_k", 3], ["moments", 1, 2]]},
    "haplotype_pairs": {"block": 4, "num_lengths": 3, "per_haplotype": [6, 6], "after_pool": [8], "head": [8]},
    "site_pairs": {"per_pair": [6], "head": []},
    "haplotype_blocks": {"block": 4, "num_lengths": 2, "per_site": [6], "filters": [8]},
    "definetti_bare": {"name": "definetti", "phi": [], "g": ["mean"], "h": [["fc", 8]]},
}


def batch(shape: InputShape = SHAPE, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Examples in which a population has alleles that are common in it."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(shape.max_sites) < torch.tensor([48, 33, 16, 40]).unsqueeze(1)
    rows = torch.arange(shape.num_haplotypes) < COUNTS[0]
    frequency = torch.where(rows.unsqueeze(1), 0.2, 0.7)
    genotypes = (torch.rand(4, shape.num_haplotypes, shape.max_sites, generator=generator) < frequency).float()
    genotypes[:, 1:3, :36] = genotypes[:, :1, :36]  # two pairs within the first population, and one between the two
    genotypes[:, 6, :36] = genotypes[:, 4, :36]
    positions = torch.randn(mask.shape, generator=generator) * mask
    return genotypes * mask.unsqueeze(1), positions if shape.has_positions else None, mask


def make(key: str, shape: InputShape = SHAPE) -> torch.nn.Module:
    torch.manual_seed(1)
    return build(key, VARIANTS[key], shape)


@pytest.mark.parametrize("key", VARIANTS)
class TestPopulations:
    def test_order_makes_no_difference_within_a_population(self, key: str) -> None:
        network = make(key).eval()
        genotypes, positions, mask = batch()
        before = network(genotypes, positions, mask)
        order = [3, 1, 4, 0, 2, 7, 5, 6]
        torch.testing.assert_close(network(genotypes[:, order], positions, mask), before)

    def test_order_makes_a_difference_between_populations(self, key: str) -> None:
        network, alone = make(key).eval(), make(key, replace(SHAPE, populations=())).eval()
        genotypes, positions, mask = batch()
        exchanged = genotypes[:, [7, 1, 2, 3, 4, 5, 6, 0]]
        assert not torch.allclose(network(exchanged, positions, mask), network(genotypes, positions, mask), atol=1e-4)
        torch.testing.assert_close(alone(exchanged, positions, mask), alone(genotypes, positions, mask))

    def test_every_parameter_gets_a_gradient(self, key: str) -> None:
        network = make(key)
        network(*batch()).square().sum().backward()
        for name, value in network.named_parameters():
            assert value.grad is not None and value.grad.abs().sum() > 0, name

    def test_every_population_reaches_the_features(self, key: str) -> None:
        network = make(key).eval()
        genotypes, positions, mask = batch()
        before = network(genotypes, positions, mask)
        for row in (3, 7):
            changed = genotypes.clone()
            changed[:, row] = (1 - changed[:, row]) * mask
            assert not torch.allclose(network(changed, positions, mask), before, atol=1e-4)

    def test_examples_and_padding_make_no_difference(self, key: str) -> None:
        network = make(key).eval()
        genotypes, positions, mask = batch()
        together = network(genotypes, positions, mask)
        noise = torch.randn(mask.shape) * ~mask
        torch.testing.assert_close(network(genotypes + noise.unsqueeze(1), positions, mask), together, rtol=0, atol=0)
        for index in range(4):
            one = slice(index, index + 1)
            torch.testing.assert_close(network(genotypes[one], positions[one], mask[one]), together[one])

    def test_weights_survive_a_round_trip(self, key: str) -> None:
        network = make(key).eval()
        torch.manual_seed(2)
        other = build(key, VARIANTS[key], SHAPE).eval()
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other(*batch()), network(*batch()), rtol=0, atol=0)
        alone = make(key, replace(SHAPE, populations=()))
        assert [*alone.state_dict()] == [name for name in network.state_dict() if name in alone.state_dict()]

    def test_check_counts_the_parameters(self, key: str) -> None:
        assert check(key, VARIANTS[key], SHAPE) == sum(value.numel() for value in make(key).parameters())


def test_haplotypes_are_compared_within_populations_and_between() -> None:
    network = build("exchangeable", {"homozygosity": 2}, SHAPE)
    assert isinstance(network, Exchangeable)
    genotypes, _, mask = batch()
    found = network._homozygosity(genotypes, mask)
    groups = [range(5), range(5, 8)]
    for example in range(4):
        expected = []
        for length in (16, 32):
            usable = int(mask[example].sum()) // length * length
            blocks = genotypes[example, :, :usable].unflatten(1, (-1, length)).unbind(1)
            for first, second in ((0, 0), (0, 1), (1, 1)):
                pairs = [(i, j) for i in groups[first] for j in groups[second] if first < second or i < j]
                same = [bool((block[i] == block[j]).all()) for block in blocks for i, j in pairs]
                expected.append(np.log(np.mean(same or [0.0]) + 1e-3) + 3)
        np.testing.assert_allclose(found[example], expected, rtol=1e-5)
    assert (found[0] > found.min()).sum() > 3


@pytest.mark.parametrize("shape", [SHAPE, replace(SHAPE, populations=())], ids=["two", "one"])
def test_distances_of_haplotypes_are_those_of_a_plain_loop(shape: InputShape) -> None:
    block, num_lengths = 4, 3
    network = build("haplotype_pairs", {"block": block, "num_lengths": num_lengths}, shape)
    assert isinstance(network, HaplotypePairs)
    genotypes, _, mask = batch()
    counts = shape.populations or (8,)
    own = [index for index, count in enumerate(counts) for _ in range(count)]
    expected = np.zeros((4, 2 * len(counts) * (1 + num_lengths) + len(counts), 8, 12))
    for example, haplotype, place in np.ndindex(4, 8, 12):
        num_sites = int(mask[example].sum())
        windows = [slice(0, num_sites)] + [slice(4 * place, 4 * place + (block << k)) for k in range(num_lengths)]
        values = expected[example, :, haplotype, place]
        for number, window in enumerate(windows):
            if window.stop > num_sites:
                continue  # not full of sites
            apart = (genotypes[example, :, window] != genotypes[example, haplotype, window]).float().mean(dim=1)
            others = [group for group in range(len(counts)) if group != own[haplotype]]
            for rank, group in enumerate([own[haplotype], *others]):
                found = [float(apart[i]) for i in range(8) if own[i] == group and i != haplotype]
                first = 2 * len(counts) * number + 2 * rank
                values[first : first + 2] = np.sqrt([min(found), np.mean(found)])
        values[own[haplotype] - len(counts)] = 1
    np.testing.assert_allclose(network._distances(genotypes, mask), expected, atol=1e-6)
    assert (expected[0, 2 * len(counts) :: 2] == 0).any() and expected.max() <= 1


def test_a_population_of_one_haplotype_has_no_pairs() -> None:
    shape = InputShape(num_haplotypes=3, max_sites=48, has_positions=False, populations=(2, 1))
    network = build("haplotype_pairs", {"block": 4}, shape)
    genotypes, _, mask = batch(replace(SHAPE, has_positions=False))
    assert torch.isfinite(network(genotypes[:, :3], None, mask)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_lengths": 2, "after_pool": [0]}, "after_pool, head: expected positive widths"),
    ],
)
def test_haplotype_pairs_refuse(options, message) -> None:
    with pytest.raises(PopdlError, match=message):
        build("haplotype_pairs", options, SHAPE)


@pytest.mark.parametrize("pool", ["max", "mean", "sum", "sort", ["top_k", 2], ["moments", 1, 3]])
def test_definetti_pools_each_population(pool) -> None:
    network = build("definetti", {"phi": [], "g": [pool], "h": []}, replace(SHAPE, has_positions=False))
    genotypes, _, mask = batch()
    alone = [build("definetti", {"phi": [], "g": [pool], "h": []}, InputShape(count, 48, False)) for count in COUNTS]
    parts = [single(part, None, mask) for single, part in zip(alone, genotypes.split(COUNTS, dim=1), strict=True)]
    torch.testing.assert_close(network(genotypes, None, mask), torch.cat(parts, dim=1))


def test_top_k_needs_as_many_in_each_population() -> None:
    with pytest.raises(PopdlError, match="top_k 4 needs as many haplotypes, found 3"):
        build("definetti", {"g": [["top_k", 4]]}, SHAPE)


@pytest.mark.parametrize("name", ["exchangeable", "haplotype_pairs"])
def test_networks_that_compare_haplotypes_do_not_take_frequencies(name) -> None:
    with pytest.raises(PopdlError, match=r"compares haplotypes, and `transforms` makes rows of individuals"):
        build(name, {}, replace(SHAPE, frequencies=True))


# Studies and cards.


def study(**changes):
    values = {
        "study": "two",
        "simulation": {
            "simulator": "isolation_with_migration",
            "num_haplotypes": {"A": 8, "B": 4},
            "sequence_length": 1e4,
            "mutation_rate": 1e-8,
            "recombination_rate": 1e-8,
            "parameters": {
                "size_A": 1e4,
                "size_B": 5e3,
                "size_ancestral": 1e4,
                "split_time_ancestral": {"uniform": [1, 9]},
            },
            "num_scenarios": 10,
        },
        "targets": {"split_time_ancestral": {}},
        "encoding": {"max_sites": 64},
        "networks": {"exchangeable": {}, "definetti": {}, "spidna": {}},
    }
    return build_study({**values, **changes})


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([], InputShape(12, 64, True, (8, 4))),
        (["genotypes"], InputShape(6, 64, True, (4, 2), frequencies=True)),
        ([{"name": "read_counts", "coverage": 25}], InputShape(6, 64, True, (4, 2), frequencies=True)),
        (["pool", "product"], InputShape(2, 64, False, (1, 1), frequencies=True)),
        (["concat"], InputShape(13, 64, False)),
    ],
)
def test_a_study_tells_its_networks(transforms, expected) -> None:
    made = study(transforms={"train": transforms, "prediction": transforms})
    assert InputShape.of(made) == expected
    assert InputShape.from_json(json.loads(json.dumps(expected.to_json()))) == expected
    problems = check_study(made, config_only=True)
    assert [problem.split(":")[0] for problem in problems] == ["networks.exchangeable"] * expected.frequencies


@pytest.mark.parametrize(
    ("prediction", "message"),
    [([], "but positions as distance from"), (["pool"], "but frequencies in 1 and 1 rows, positions as distance from")],
)
def test_lists_that_end_in_other_rows_are_refused(prediction, message) -> None:
    made = study(transforms={"train": ["genotypes"], "prediction": prediction})
    with pytest.raises(PopdlError, match=rf"train: networks get frequencies in 4 and 2 rows, positions .*, {message}"):
        Pipelines.of(made)


def test_training_on_reads_and_predicting_from_calls_is_fine() -> None:
    reads = {"name": "read_counts", "coverage": 25}
    made = study(transforms={"train": [reads], "validation": [reads], "prediction": ["genotypes"]})
    assert len({InputShape.after(pipeline) for pipeline in Pipelines.of(made).__dict__.values()}) == 1


def test_a_shape_without_populations_is_written_as_before() -> None:
    """Cards of models of one population, and their bytes, stay what they were."""
    assert InputShape(12, 64, True).to_json() == {"num_haplotypes": 12, "max_sites": 64, "has_positions": True}
    assert InputShape.from_json({"num_haplotypes": 12, "max_sites": 64, "has_positions": True}) == InputShape(
        12, 64, True
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small dataset of two populations."""
    with pytest.MonkeyPatch.context() as patch:
        simulations = learnable._simulations

        def of_two(number, shard_size):
            arrays, attributes = simulations(number, shard_size)
            return arrays, {**attributes, "populations": {"A": 6, "B": 2}}

        patch.setattr(learnable, "_simulations", of_two)
        return learnable.dataset(tmp_path_factory.mktemp("two"))


def fit(data, folder: Path, **changes) -> Path:
    training = learnable.TRAINING.model_copy(update={"max_epochs": 1})
    return learnable.fit(data, folder, training=training, **changes)["output"]


@pytest.mark.parametrize("options", [learnable.OPTIONS, {"name": "definetti", "h": [["fc", 8]]}])
def test_a_model_of_two_populations_predicts_from_its_file(data, tmp_path, options) -> None:
    path = fit(data, tmp_path, options=options)
    assert read_card(path)["shape"]["populations"] == [6, 2]
    assert "6 + 2 haplotypes × ≤ 24 sites" in " ".join(card_text(path).split())
    model, packed = load_model(path), PackedData.from_shards(data["shards"])
    assert model.module.body.shape.populations == (6, 2)
    rows = np.arange(20)
    assert packed.missing is not None
    exchanged, within = (
        replace(packed, genotypes=packed.genotypes[:, order], missing=packed.missing[:, order])
        for order in ([0, 6, 2, 3, 4, 5, 1, 7], [5, 0, 4, 3, 2, 1, 7, 6])
    )
    found = predict_arrays([model], packed, rows)
    np.testing.assert_allclose(predict_arrays([model], within, rows)["size"], found["size"], rtol=1e-4)
    assert not np.allclose(predict_arrays([model], exchanged, rows)["size"], found["size"], rtol=1e-4)


def test_reads_are_drawn_alike_in_every_prediction(data, tmp_path) -> None:
    reads = Transforms(
        train=[{"name": "read_counts", "coverage": 4}], prediction=[{"name": "read_counts", "coverage": 4}]
    )
    path = fit(data, tmp_path, options={"name": "definetti", "h": [["fc", 8]]}, transforms=reads)
    model = load_model(path)
    assert model.card["shape"] == {
        "num_haplotypes": 4, "max_sites": 24, "has_positions": True, "populations": [3, 1], "frequencies": True, "distances": True
    }  # fmt: skip
    assert "3 + 1 rows of allele frequencies × ≤ 24 sites" in " ".join(card_text(path).split())
    packed = PackedData.from_shards(data["shards"])
    whole = predict_arrays([model], packed, np.arange(40))
    part = predict_arrays([model], packed, np.arange(33, 12, -1))
    np.testing.assert_allclose(part["size"], whole["size"][33:12:-1], rtol=1e-4)


def test_a_model_from_before_there_were_populations_keeps_its_network(data, tmp_path, monkeypatch) -> None:
    after = InputShape.after
    with monkeypatch.context() as patch:
        patch.setattr(InputShape, "after", lambda transforms: replace(after(transforms), populations=()))
        path = fit(data, tmp_path, options=learnable.OPTIONS)
    assert "populations" not in read_card(path)["shape"]
    model = load_model(path)
    assert model.module.body.shape.populations == ()
    assert len(predict_arrays([model], PackedData.from_shards(data["shards"]), np.arange(5))) == 5


def test_populations_that_contradict_the_recipe_are_refused(data, tmp_path) -> None:
    path = fit(data, tmp_path, options=learnable.OPTIONS)
    edited(path, path, lambda card: card["shape"].update(populations=[4, 4]))
    with pytest.raises(PopdlError, match="the shape in its card contradict each other"):
        load_model(path)

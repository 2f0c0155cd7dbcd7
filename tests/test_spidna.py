"""SPIDNA: the cheap form against the plain one, and what its normalisation promises."""

from __future__ import annotations

import learnable
import numpy as np
import pytest
import torch
from torch.nn import functional

from popdl.loader import PackedData
from popdl.model import load_model
from popdl.networks._base import InputShape, build
from popdl.prediction import predict_arrays

KINDS = ["batch", "instance", "adaptive"]
EPSILON = 1e-5


def make(kind, shape, *, num_blocks=3, num_features=5):
    torch.manual_seed(1)
    network = build("spidna", {"num_blocks": num_blocks, "num_features": num_features, "normalisation": kind}, shape)
    with torch.no_grad():  # normalisation starts with weights of 1 and biases of 0, which would hide a mistake
        for name, parameter in network.named_parameters():
            if "normalisation" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.double()


def batch(shape, num_sites, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(shape.max_sites) < torch.tensor(num_sites).unsqueeze(1)
    size = (len(num_sites), shape.num_haplotypes, shape.max_sites)
    genotypes = torch.randint(-1, 2, size, generator=generator).double() * mask.unsqueeze(1)
    positions = torch.randn(len(num_sites), shape.max_sites, generator=generator).double() * mask
    return genotypes, positions if shape.has_positions else None, mask


def naive_normalise(layer, values, kind):
    """``values``: one tensor (features, haplotypes, real sites) for each example, as its length differs."""
    if kind == "batch" and not layer.training:
        means = [layer.running_mean] * len(values)
        variances = [layer.running_variance] * len(values)
    elif kind == "batch":
        everything = torch.cat([value.flatten(1) for value in values], dim=1)
        means = [everything.mean(1)] * len(values)
        variances = [everything.var(1, correction=0)] * len(values)
    else:
        flat = [value.flatten(1) if kind == "instance" else value.flatten()[None] for value in values]
        means = [value.mean(1) for value in flat]
        variances = [value.var(1, correction=0) for value in flat]
    result = []
    for value, mean, variance in zip(values, means, variances, strict=True):
        standard = (value - mean[:, None, None]) / torch.sqrt(variance + EPSILON)[:, None, None]
        result.append(standard * layer.weight[:, None, None] + layer.bias[:, None, None])
    return result


def naive_forward(network, genotypes, positions, mask):
    """The network as the paper draws it, one example at a time, on its real sites alone."""
    kind = network.settings.normalisation
    first_kind = "batch" if kind == "batch" else "instance"
    lengths = mask.sum(1).tolist()

    def convolve(layer, value, bias):
        weight = layer.weight if layer.weight.ndim == 4 else layer.weight.unsqueeze(2)
        return functional.conv2d(value[None], weight, bias, padding=(0, 1))[0]

    def first(layer, rows):
        values = [
            convolve(layer.convolution, row[None, :, :length], None) for row, length in zip(rows, lengths, strict=True)
        ]
        return [value.relu() for value in naive_normalise(layer.normalisation, values, first_kind)]

    values = first(network.genotypes, genotypes)
    if positions is not None:
        columns = first(network.positions, positions.unsqueeze(1))
        values = [torch.cat([own, shared.expand_as(own)]) for own, shared in zip(values, columns, strict=True)]
    features = []
    for block in network.blocks:
        values = naive_normalise(block.normalisation, values, kind)
        values = [convolve(block.convolution, value, block.convolution.bias) for value in values]
        means = [value.mean(1, keepdim=True) for value in values]
        features.append(torch.stack([mean.relu().mean((1, 2)) for mean in means]))
        values = [torch.cat([own, mean.expand_as(own)]) for own, mean in zip(values, means, strict=True)]
        values = [functional.max_pool2d(value, (1, 2), ceil_mode=True).relu() for value in values]
    return torch.cat(features, dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_positions", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_cheap_form_equals_the_plain_form(kind, has_positions, training):
    """Values and gradients; any number of sites, odd and even, padded or not."""
    shape = InputShape(num_haplotypes=6, max_sites=33, has_positions=has_positions)
    network = make(kind, shape)
    network(*batch(shape, (33, 20, 7, 32), seed=3))  # running means and variances of a batch
    network.train(training)
    inputs = batch(shape, (33, 1, 17, 32))
    gradients = []
    cheap = network(*inputs)
    plain = naive_forward(network, *inputs)
    torch.testing.assert_close(cheap, plain)
    weights = torch.randn(cheap.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for output in (cheap, plain):
        gradients.append(torch.autograd.grad((output * weights).sum(), list(network.parameters())))
    for (name, _), fast, slow in zip(network.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(fast, slow, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_haplotypes", "max_sites"), [(1, 1), (2, 7), (3, 128), (130, 9)])
def test_any_number_of_haplotypes_and_sites(kind, num_haplotypes, max_sites):
    shape = InputShape(num_haplotypes, max_sites, has_positions=True)
    network = make(kind, shape, num_blocks=7)
    inputs = batch(shape, (max_sites, (max_sites + 1) // 2))
    features = network(*inputs)
    torch.testing.assert_close(features, naive_forward(network, *inputs))
    assert features.shape == (2, 35)


def test_batch_statistics_leave_padding_out_and_running_ones_are_used_in_evaluation():
    """The same sites in a longer array give the same statistics, and evaluation changes none."""
    short, long = (InputShape(6, sites, has_positions=True) for sites in (20, 64))
    networks = [make("batch", shape) for shape in (short, long)]
    for shape, network in zip((short, long), networks, strict=True):
        genotypes, positions, mask = batch(short, (20, 11))
        more = shape.max_sites - 20
        network(*(functional.pad(value, (0, more)) for value in (genotypes, positions, mask)))
    buffers = [dict(network.named_buffers()) for network in networks]
    assert buffers[0].keys() == buffers[1].keys() and len(buffers[0]) == 2 * (2 + 3)
    for name in buffers[0]:
        torch.testing.assert_close(buffers[0][name], buffers[1][name])
    before = {name: value.clone() for name, value in buffers[0].items()}
    assert any(not torch.allclose(value, torch.ones_like(value)) for value in before.values())
    networks[0].eval()(*batch(short, (20, 5), seed=4))
    assert all(torch.equal(before[name], value) for name, value in networks[0].named_buffers())


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_tells_examples_apart(kind):
    """Features that were normalised over one example have the same mean in all: a block must not speak of that mean."""
    shape = InputShape(20, 64, has_positions=True)
    genotypes, positions, mask = batch(shape, (64,) * 8)
    rare = torch.rand(genotypes.shape, generator=torch.Generator().manual_seed(2)).double()
    frequency = torch.linspace(0.02, 0.5, 8, dtype=torch.float64)[:, None, None]
    features = make(kind, shape)((rare < frequency).double(), positions, mask)
    assert (features.std(0).unflatten(0, (3, 5)).amax(1) > 0.01).all()


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_gives_the_same_features_and_gradients(kind):
    """As ``training.precision: bf16`` runs it; bfloat16 keeps 8 bits."""
    shape = InputShape(10, 128, has_positions=True)
    network = make(kind, shape, num_features=16).float()
    genotypes, positions, mask = batch(shape, (128, 90, 128, 31))
    inputs = (genotypes.float(), positions.float(), mask)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            features = network(*inputs)
        gradient = torch.autograd.grad(features.float().square().sum(), network.genotypes.convolution.weight)[0]
        found.append((features.float(), gradient))
    (features, gradient), (mixed, mixed_gradient) = found
    assert torch.linalg.vector_norm(mixed - features) < 0.02 * torch.linalg.vector_norm(features)
    assert functional.cosine_similarity(mixed_gradient.flatten(), gradient.flatten(), dim=0) > 0.98


def test_a_trained_model_predicts_alike_in_batches_of_any_size(tmp_path):
    """Running means and variances travel in the model file, and no example sees its neighbours."""
    data = learnable.dataset(tmp_path / "data")
    options = {"name": "spidna", "num_blocks": 2, "num_features": 8}
    model = load_model(learnable.fit(data, tmp_path / "trained", options=options)["output"])
    running = {name: value for name, value in model.module.named_buffers() if "running" in name}
    assert len(running) == 2 * (2 + 2)
    assert all(not torch.equal(value, torch.ones_like(value)) and value.any() for value in running.values())
    packed = PackedData.from_shards(data["shards"])
    rows = np.arange(packed.num_examples)
    together, alone = (predict_arrays([model], packed, rows, batch_size=size) for size in (len(rows), 1))
    numbers = together.select_dtypes("number").columns
    assert len(numbers) > 0
    np.testing.assert_allclose(together[numbers], alone[numbers], rtol=1e-4)

"""What single networks compute, against plain loops, and which options they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from network_variants import SHAPE, batch, make

from popdl.errors import PopdlError
from popdl.networks._base import InputShape, build

pytestmark = pytest.mark.usefixtures("one_thread")


def test_exchangeable_reads_the_spectrum_of_either_way_of_writing_alleles():
    network = make("exchangeable_sites").eval()
    genotypes, positions, mask = batch(num_sites=(33, 20))
    zeros_and_ones = genotypes.clamp(min=0)
    signed = (2 * zeros_and_ones - 1) * mask.unsqueeze(1)
    assert torch.equal(network(zeros_and_ones, positions, mask), network(signed, positions, mask))


@pytest.mark.parametrize("num_haplotypes", [1, 2, 6, 20, 50])
@pytest.mark.parametrize("branch", range(5))
def test_every_branch_of_custom_cnn_is_alive_at_any_number_of_haplotypes(num_haplotypes, branch):
    """Without what one branch says the features are others, and every haplotype reaches it."""
    shape = InputShape(num_haplotypes, 40, has_positions=True)
    torch.manual_seed(1)
    network = build("custom_cnn", {"filters": 4, "num_features": 10}, shape)
    genotypes, positions, mask = batch(shape, (40, 31, 40, 25))
    genotypes.requires_grad_()
    whole = network(genotypes, positions, mask)
    said = network.branches[branch](genotypes, positions, mask)
    assert said.shape == (4, 10, 40)
    (reached,) = torch.autograd.grad(said.square().sum(), genotypes)
    assert (reached.abs().sum((0, 2)) > 0).all()
    with torch.no_grad():
        network.join.convolution.weight[:, 10 * branch : 10 * (branch + 1)] = 0
        assert not torch.allclose(network(genotypes, positions, mask), whole)


def test_homozygosity_is_the_share_of_identical_pairs():
    shape = InputShape(num_haplotypes=6, max_sites=75, has_positions=False)
    network = build("exchangeable", {"homozygosity": 2}, shape)
    genotypes, _, mask = batch(shape, num_sites=(75, 64, 40, 15))
    genotypes[:, 1:4] = genotypes[:, :1]
    genotypes[:, 3, 20] = 1 - genotypes[:, 3, 20].clamp(min=0)
    for example, num_sites in enumerate((75, 64, 40, 15)):
        for number, length in enumerate((16, 32)):
            blocks = (genotypes[example, :, : num_sites // length * length] > 0).unflatten(1, (-1, length)).unbind(1)
            same = [bool((block[i] == block[j]).all()) for block in blocks for i in range(6) for j in range(i)]
            share = torch.tensor(sum(same) / max(len(same), 1))
            found = network._homozygosity(genotypes, mask)[example, number]
            torch.testing.assert_close(found, torch.log(share + 1e-3) + 3)


def test_flagel_refuses_too_few_sites():
    with pytest.raises(PopdlError, match=r"networks\.cnn: filters: 9 sites .* raise encoding.max_sites"):
        build("cnn", {"name": "flagel", "filters": [4] * 4}, InputShape(6, 9, True))


def test_flagel_along_haplotypes_is_flagel_on_the_transposed_matrix():
    options = {"name": "flagel", "filters": [4, 4], "pool": [1, 2]}
    across = build("cnn", {**options, "along": "haplotypes"}, InputShape(6, 33, False)).eval()
    along = build("cnn", options, InputShape(33, 6, False)).eval()
    along.load_state_dict(across.state_dict())
    genotypes, _, mask = batch(InputShape(6, 33, False), num_sites=(33, 33, 33, 33))
    everything = torch.ones(4, 6, dtype=torch.bool)
    torch.testing.assert_close(across(genotypes, None, mask), along(genotypes.mT, None, everything))


def test_flagel_drops_after_pools_and_in_the_head():
    network = build("cnn", {"name": "flagel", "filters": [4, 4], "pool": [1, 2], "head_dropout": 0.5}, SHAPE)
    parts = {name: part.p for name, part in network.named_modules() if isinstance(part, torch.nn.Dropout)}
    assert [parts[name] for name in sorted(parts)] == [0.0, 0.25, 0.5, 0.25], parts


def test_flagel_needs_a_pool_for_each_convolution():
    with pytest.raises(
        PopdlError, match=r"networks\.cnn: pool: expected one number for each of 2 filters, found \[2\]"
    ):
        build("cnn", {"name": "flagel", "filters": [4, 4], "pool": [2]}, SHAPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phi": [["fc", 8], ["conv", 3, 4]]}, "no convolution can follow a dense layer"),
        ({"phi": [["fc", 8]], "h": [["conv", 3, 4]]}, "no convolution can follow a dense layer"),
        ({"phi": [["conv", 5]]}, r"phi.0: expected \[conv, width, features\] or \[fc, features\], found \['conv', 5\]"),
        ({"g": ["median"]}, "g.0.kind: .*'max'.*found 'median'"),
        ({"g": ["top_k"]}, r"expected \[top_k, 4\]"),
        ({"g": [["moments", 1, 1]]}, "different orders from 1"),
        ({"g": [["top_k", 7]]}, "top_k 7 needs as many haplotypes, found 6"),
    ],
)
def test_definetti_refuses(options, message):
    with pytest.raises(PopdlError, match=message):
        build("definetti", options, SHAPE)


@pytest.mark.parametrize("pool", ["max", "mean", "sum", "sort", ["top_k", 2], ["moments", 1, 3]])
def test_pools_of_definetti_are_what_they_are_called(pool):
    """Φ and h empty, so that the features are those of g alone."""
    shape = InputShape(num_haplotypes=6, max_sites=33, has_positions=False)
    network = build("definetti", {"phi": [], "g": [pool], "h": []}, shape)
    genotypes, _, mask = batch(shape, num_sites=(33, 33))
    columns = genotypes.numpy()
    expected = {
        "max": columns.max(1)[:, None],
        "mean": columns.mean(1)[:, None],
        "sum": columns.sum(1)[:, None],
        "sort": -np.sort(-columns, axis=1),
        "top_k": -np.sort(-columns, axis=1)[:, :2],
        "moments": np.stack([columns.mean(1), (columns**3).mean(1)], axis=1),
    }[pool if isinstance(pool, str) else pool[0]]
    np.testing.assert_allclose(network(genotypes, None, mask).reshape(2, -1, 33).numpy(), expected, atol=1e-6)


def test_site_pairs_read_linkage_and_nothing_else_of_alleles():
    """Which allele is called 1 makes no difference, and who carries them does."""
    shape = InputShape(num_haplotypes=6, max_sites=33, has_positions=True)
    network = make("site_pairs", shape).eval()
    genotypes, positions, mask = batch(shape)
    genotypes = genotypes.clamp(min=0)
    before = network(genotypes, positions, mask)
    flipped = genotypes.clone()
    flipped[:, :, ::3] = 1 - flipped[:, :, ::3]
    torch.testing.assert_close(network(flipped * mask.unsqueeze(1), positions, mask), before)
    moved = genotypes.clone()
    moved[:, :, ::3] = moved[:, :, ::3].roll(1, dims=1)
    assert not torch.allclose(network(moved, positions, mask), before)


@pytest.mark.parametrize("num_haplotypes", [6, 300])
def test_haplotype_blocks_count_haplotypes_as_a_loop_does(num_haplotypes):
    shape = InputShape(num_haplotypes, 33, has_positions=True)
    network = build("haplotype_blocks", {"block": 4, "num_lengths": 3}, shape)
    genotypes, _, mask = batch(shape, (33, 18))
    padded, real = (torch.nn.functional.pad(values, (0, 3)) for values in (genotypes, mask))
    found = network._haplotypes(padded, real, real.unflatten(1, (-1, 4)).all(dim=2))
    for length, channels in enumerate(found):
        num_sites, first = 4 * 2**length, (2**length - 1) // 2
        for example in range(2):
            for number in range((36 - num_sites) // 4 + 1):
                part = slice(4 * number, 4 * number + num_sites)
                rows = [tuple(row) for row in (padded[example, :, part] > 0).int().tolist()]
                shares = [rows.count(row) / num_haplotypes for row in rows]
                expected = [np.log(np.mean(shares) + 1e-3), max(shares), np.mean(np.square(shares))]
                if not real[example, part].all():
                    expected = [0.0, 0.0, 0.0]
                np.testing.assert_allclose(channels[example, :, first + number], expected, rtol=1e-5)


def test_haplotype_blocks_tell_left_from_right():
    """The mirror image of a window is another window; what networks that average over the window see of it is the same."""
    network = make("haplotype_blocks").eval()
    genotypes, positions, mask = batch(num_sites=(33, 33), seed=3)
    genotypes[:, 1:, :8] = genotypes[:, :1, :8]  # one haplotype on the left
    positions = torch.linspace(-1.7, 1.7, 33).expand(2, 33)
    mirrored = network(genotypes.flip(2), -positions.flip(1), mask)
    assert not torch.allclose(mirrored, network(genotypes, positions, mask), atol=1e-3)


def test_haplotype_blocks_need_haplotypes():
    with pytest.raises(PopdlError, match=r"networks\.haplotype_blocks: this network compares haplotypes"):
        build("haplotype_blocks", {}, InputShape(6, 33, has_positions=True, frequencies=True))


LINKED = {"num_distances": 32, "spacing": "even", "stretches": 4, "four_gametes": True, "per_pair": [1], "head": []}


def gametes(columns: np.ndarray, distance: int) -> list[float]:
    """The rarest gamete of each pair of neighbours at a distance, counted one by one."""
    found = []
    for first, second in zip(columns.T[:-distance], columns.T[distance:], strict=True):
        counts = [np.sum((first == a) & (second == b)) for a in (0, 1) for b in (0, 1)]
        found.append(math.log2(1 + min(counts)) / 2)
    return found


def test_site_pairs_average_what_they_are_told_in_every_stretch():
    """Without layers, the features are the averages themselves."""
    shape = InputShape(num_haplotypes=6, max_sites=9, has_positions=False)
    network = build("site_pairs", LINKED, shape).eval()
    with torch.no_grad():
        network.per_pair[0].weight.copy_(torch.tensor([0.0, 0, 0, 0, 1]).reshape(1, 5, 1))
        network.per_pair[0].bias.zero_()
    genotypes, _, mask = batch(shape, num_sites=(9, 7))
    found = network(genotypes, None, mask).detach().numpy()
    for row, number in enumerate((9, 7)):
        expected = [math.log(number / 9)]
        for distance in range(1, 9):
            values = gametes(genotypes[row].clamp(min=0).numpy(), distance)
            stretch = [int((first + distance / 2) / 9 * 4) for first in range(9 - distance)]
            for part in sorted(set(stretch)):
                inside = [
                    value for first, value in enumerate(values) if stretch[first] == part and first + distance < number
                ]
                expected.append(np.mean(inside) if inside else 0.0)
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_site_pairs_add_up_distances():
    """They are given standardised log(1 + distance in bp), and know the distance in bp of any two sites but for one factor."""
    shape = InputShape(num_haplotypes=6, max_sites=9, has_positions=True, distances=True)
    network = build("site_pairs", {"num_distances": 2, "per_pair": [1], "head": []}, shape).eval()
    genotypes, _, mask = batch(shape, num_sites=(9, 7))
    steps = torch.randint(1, 5000, (2, 9)).double()
    with torch.no_grad():
        network.per_pair[0].weight.copy_(torch.tensor([0.0, 0, 0, 0, 1, 0]).reshape(1, 6, 1))
        network.per_pair[0].bias.fill_(10.0)  # so that ReLU cuts nothing off
        network.spread.fill_(1.5)
    found = network(genotypes, ((steps.log1p() - 6) / 1.5 * mask).float(), mask).detach()
    for row, number in enumerate((9, 7)):
        ends = (steps[row, :number] + 1).cumsum(0)
        expected = [10 + ((ends[step:] - ends[:-step]).log() - math.log(9) - 6).mean() for step in (1, 2)]
        torch.testing.assert_close(found[row, 1:].double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_individuals_have_no_gametes():
    with pytest.raises(PopdlError, match="four_gametes: individuals and populations have no gametes"):
        build("site_pairs", {"four_gametes": True}, InputShape(6, 33, has_positions=True, frequencies=True))


def test_site_pairs_need_a_pair():
    with pytest.raises(PopdlError, match="a pair needs 2 sites, found 1"):
        build("site_pairs", {}, InputShape(6, 1, has_positions=True))

"""Every network that ships, by the promises of ``networks/_base.py``."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from popdl import plugins
from popdl.errors import PopdlError
from popdl.networks._base import InputShape, build, check, settings_of

SHAPE = InputShape(num_haplotypes=6, max_sites=33, has_positions=True)
VARIANTS = {
    "exchangeable": {"dropout": 0.0},
    "exchangeable_sites": {"name": "exchangeable", "per_haplotype": [], "after_pool": [], "dropout": 0.0},
    "exchangeable_haplotypes": {
        "name": "exchangeable",
        "per_haplotype": [{"conv": 4, "width": 4, "stride": 3}, {"conv": 3, "width": 2}],
        "pool": ["max"],
        "after_pool": [],
        "per_site": [],
        "head": [],
    },
    "flagel": {"filters": [8, 8], "dropout": 0.0},
    "flagel_untransposed": {"name": "flagel", "filters": [8, 8], "along": "haplotypes", "pool": [1, 2], "dropout": 0.0},
    "haplotype_blocks": {
        "block": 4,
        "num_lengths": 2,
        "num_distances": 3,
        "per_site": [6],
        "filters": [8],
        "dropout": 0.0,
    },
    "haplotype_blocks_long": {
        "name": "haplotype_blocks",
        "block": 16,
        "num_lengths": 4,
        "num_distances": 0,
        "head": [],
        "dropout": 0.0,
    },
    "mlp": {"widths": [8]},
    "cnn": {"filters": [4, 8]},
    "cnn_whole": {"name": "cnn", "filters": [4], "width": 2, "stride": 1, "pool": 1, "head": []},
    "custom_cnn": {"filters": 4, "position_filters": 2, "num_features": 8, "num_layers": 2},
    "definetti": {"phi": [["conv", 5, 4], ["conv", 2, 8]], "g": ["max"], "h": [["fc", 16]]},
    "definetti_dense": {"name": "definetti", "phi": [["conv", 3, 4], ["fc", 8]], "g": ["mean", "sum", "sort"], "h": []},
    "definetti_pools": {
        "name": "definetti",
        "phi": [["fc", 6]],
        "g": [["top_k", 2], ["moments", 1, 2, 3], ["attention", 2]],
        "h": [["fc", 8]],
    },
    "definetti_places": {
        "name": "definetti",
        "phi": [["conv", 1, 6]],
        "g": [["attention", 3], ["top_k", 2]],
        "h": [["conv", 3, 4], ["fc", 8]],
    },
    "definetti_bare": {"name": "definetti", "phi": [], "g": ["mean"], "h": [["conv", 3, 4], ["fc", 8]]},
    "site_pairs": {"num_distances": 4, "per_pair": [8, 4], "head": [8]},
    "site_pairs_bare": {"name": "site_pairs", "num_distances": 9, "per_pair": [8], "head": []},
    "site_pairs_stretches": {
        "name": "site_pairs",
        "num_distances": 12,
        "spacing": "even",
        "stretches": 7,
        "four_gametes": True,
        "per_pair": [8, 4],
        "head": [16],
    },
    "haplotype_pairs": {"block": 4, "num_lengths": 3, "per_haplotype": [6, 6], "after_pool": [8], "head": [8]},
    "haplotype_pairs_bare": {"name": "haplotype_pairs", "block": 1, "num_lengths": 1, "per_haplotype": [4], "head": []},
    "spidna": {"num_blocks": 3, "num_features": 8},
    "spidna_instance": {"name": "spidna", "num_blocks": 3, "num_features": 8, "normalisation": "instance"},
    "spidna_adaptive": {"name": "spidna", "num_blocks": 3, "num_features": 8, "normalisation": "adaptive"},
}


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch(shape=SHAPE, num_sites=(33, 1, 17, 32), seed=0):
    """Random examples with missing alleles, padded as the loader pads them."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(shape.max_sites) < torch.tensor(num_sites).unsqueeze(1)
    size = (len(num_sites), shape.num_haplotypes, shape.max_sites)
    genotypes = torch.randint(-1, 2, size, generator=generator).float() * mask.unsqueeze(1)
    positions = torch.randn(len(num_sites), shape.max_sites, generator=generator) * mask
    return genotypes, positions if shape.has_positions else None, mask


def make(key, shape=SHAPE):
    torch.manual_seed(1)
    return build(key, VARIANTS[key], shape)


def test_every_network_is_tested():
    names = {options.get("name", key) for key, options in VARIANTS.items()}
    assert names == set(plugins.known("networks"))


@pytest.mark.parametrize("key", VARIANTS)
@pytest.mark.parametrize("has_positions", [True, False])
class TestAll:
    def shape(self, has_positions):
        return InputShape(SHAPE.num_haplotypes, SHAPE.max_sites, has_positions)

    def test_shape_of_the_output(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape)
        features = network(*batch(shape))
        assert features.shape == (4, network.num_features)
        assert torch.isfinite(features).all()

    def test_padding_makes_no_difference(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape).eval()
        genotypes, positions, mask = batch(shape)
        noise = torch.randn(mask.shape) * ~mask
        changed = network(genotypes + noise.unsqueeze(1), positions + noise if has_positions else None, mask)
        torch.testing.assert_close(changed, network(genotypes, positions, mask), rtol=0, atol=0)

    def test_examples_do_not_see_each_other(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape).eval()
        genotypes, positions, mask = batch(shape)
        together = network(genotypes, positions, mask)
        for index in range(len(mask)):
            one = slice(index, index + 1)
            alone = network(genotypes[one], positions[one] if has_positions else None, mask[one])
            torch.testing.assert_close(alone, together[one])

    def test_order_of_haplotypes(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape).eval()
        genotypes, positions, mask = batch(shape)
        reordered = network(genotypes.flip(1), positions, mask)
        same = torch.allclose(reordered, network(genotypes, positions, mask), atol=1e-6)
        assert same == network.exchangeable

    def test_every_parameter_gets_a_gradient(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape)
        network(*batch(shape)).square().sum().backward()
        without = [
            name for name, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0
        ]
        assert not without

    def test_positions_matter_where_there_are_some(self, key, has_positions):
        network = make(key, self.shape(has_positions)).eval()
        genotypes, positions, mask = batch(self.shape(has_positions))
        if has_positions:
            moved = network(genotypes, positions + mask, mask)
            assert not torch.allclose(moved, network(genotypes, positions, mask))

    def test_weights_survive_a_round_trip(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape).eval()
        torch.manual_seed(2)
        other = build(key, VARIANTS[key], shape).eval()
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(*batch(shape)), network(*batch(shape)))

    def test_loss_falls_when_fitting_one_batch(self, key, has_positions):
        shape = self.shape(has_positions)
        network = make(key, shape)
        head = torch.nn.Linear(network.num_features, 1)
        truth = torch.tensor([[1.0], [-1.0], [0.5], [-0.5]])
        optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=0.02)
        losses = []
        for _ in range(80):
            loss = ((head(network(*batch(shape))) - truth) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.3 * losses[0]

    def test_check_counts_parameters_without_memory(self, key, has_positions):
        shape = self.shape(has_positions)
        assert check(key, VARIANTS[key], shape) == sum(value.numel() for value in make(key, shape).parameters())


@pytest.mark.parametrize("key", ["exchangeable", "flagel", "spidna", "custom_cnn", "mlp", "cnn"])
def test_check_takes_shapes_that_would_not_fit_into_memory(key):
    assert check(key, {}, InputShape(num_haplotypes=100_000, max_sites=1_000_000, has_positions=True)) > 0


def test_a_network_that_forgets_its_number_of_features_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "from popdl.networks._base import Network\n\n\nclass Own(Network):\n    def forward(self, g, p, m):\n        return g\n"
    )
    with pytest.raises(PopdlError, match=r"__init__\(\) of Own must set self\.num_features"):
        check("own", {"name": "own.py:Own"}, SHAPE)


def test_window_without_sites_gives_finite_features():
    for key in VARIANTS:
        assert torch.isfinite(make(key).eval()(*batch(num_sites=(0, 5)))).all()


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
        ({"heads": [3]}, r"heads: unknown key; did you mean 'head'\?"),
        ({"dropout": 1.0}, r"dropout: .*less than 1, found 1.0"),
        ({"per_haplotype": [{"conv": 0}]}, r"per_haplotype\.0\.conv: .*of at least 1"),
        ({"homozygosity": 17}, "homozygosity: .*of at most 16"),
        ({"per_haplotype": []}, "nothing to pool"),
        ({"pool": ["median"]}, r"pool\.0: expected 'mean' or 'max', found 'median'"),
        ({"head": [0]}, "head: expected positive widths"),
        ({"name": 3}, "expected the name of a network, found 3"),
        ({"name": "flagle"}, "did you mean 'flagel'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(PopdlError, match=message):
        settings_of("exchangeable", options)


def test_check_refuses_a_network_whose_output_has_another_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from popdl.networks._base import Network\n"
        "class Wrong(Network):\n"
        "    def __init__(self, settings, shape):\n"
        "        super().__init__(settings, shape)\n"
        "        self.num_features = 5\n"
        "    def forward(self, genotypes, positions, mask):\n"
        "        return genotypes.mean(dim=1)\n"
    )
    with pytest.raises(PopdlError, match=r"num_features\) = \(2, 5\), found \(2, 33\)"):
        check("mine", {"name": f"{plugin}:Wrong"}, SHAPE)


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


def test_every_published_network_says_what_to_cite() -> None:
    """What a network's file names in its first lines as its source is what the report asks to cite."""
    sources = {
        "exchangeable": "Chan J. et al. (2018)",
        "definetti": "Chan J. et al. (2018)",
        "flagel": "Flagel L., Brandvain Y. & Schrider D.R. (2019)",
        "custom_cnn": "Sanchez T. et al. (2021)",
        "spidna": "Sanchez T. et al. (2021)",
    }
    unpublished = {"cnn", "haplotype_blocks", "haplotype_pairs", "mlp", "site_pairs"}
    assert {*sources, *unpublished} == set(plugins.known("networks")), "a new network belongs to one or the other"
    for name in plugins.known("networks"):
        citation = settings_of(name, {})[0].citation
        assert citation is None if name in unpublished else citation.startswith(sources[name]), name

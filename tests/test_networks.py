"""Every network that ships, by the promises of ``networks/_base.py``."""

from __future__ import annotations

import pytest
import torch
from network_variants import SHAPE, VARIANTS, batch, make

from popdl import plugins
from popdl.errors import PopdlError
from popdl.networks._base import InputShape, build, check, settings_of

pytestmark = pytest.mark.usefixtures("one_thread")


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

"""Simulators against theory, against independent msprime calls, and against bad configs."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msprime
import numpy as np
import pytest
from simulated import examples, section, standard_errors

from popdl import priors, seeds
from popdl.config.study import simulation_section
from popdl.errors import PopdlError
from popdl.simulators._base import Example, Simulator

MAP = Path(__file__).parents[2] / "shared" / "data" / "maps" / "genetic_map_GRCh37_chr20.txt.gz"

DEMES = """
time_units: years
generation_time: 25
demes:
- name: A
  epochs:
  - {start_size: 1000, end_time: 50000}
- name: B
  ancestors: [A]
  epochs: [{start_size: 500, end_time: 2500}, {end_size: 2000}]
- name: C
  ancestors: [A]
  epochs: [{start_size: 3000}]
migrations:
- {demes: [B, C], rate: 1.0e-4}
"""


def spectrum(example: Example) -> np.ndarray:
    """Number of sites with 1 … n − 1 derived alleles."""
    count = example.genotypes.shape[1]
    return np.bincount(example.genotypes.sum(axis=1), minlength=count + 1)[1:count]


@pytest.fixture(scope="session")
def neutral() -> list[Example]:
    return examples(section(discrete_genome=False), 1000)


def test_constant_size_meets_theory(neutral: list[Example]) -> None:
    """E[S] = θ a_n (Watterson 1975), E[π] = θ (Tajima 1983), E[ξ_i] = θ / i (Fu 1995), under infinite sites."""
    n, theta = 10, 4 * 1000 * 1e-7 * 1e4
    spectra = np.array([spectrum(example) for example in neutral])
    counts = np.arange(1, n)
    assert standard_errors(spectra.sum(axis=1), theta * (1 / counts).sum()) < 4
    assert standard_errors((spectra * counts * (n - counts)).sum(axis=1) / (n * (n - 1) / 2), theta) < 4
    assert (standard_errors(spectra, theta / counts) < 4).all()


def test_infinite_sites_never_hit_a_site_twice(neutral: list[Example]) -> None:
    for example in neutral[:200]:
        assert set(np.unique(example.genotypes)) <= {0, 1}
        assert (np.diff(example.positions) > 0).all()


def test_discrete_genome_has_whole_positions_and_several_alleles() -> None:
    simulated = examples(section(mutation_rate=1e-5), 3)
    assert any(example.genotypes.max() > 1 for example in simulated)
    for example in simulated:
        assert example.genotypes.dtype == np.int8
        np.testing.assert_array_equal(example.positions, np.floor(example.positions))


def test_an_example_does_not_keep_its_trees_in_memory(neutral: list[Example]) -> None:
    """A shard holds thousands of examples, and the trees of one may take a hundred times its memory."""
    for array in (neutral[0].genotypes, neutral[0].positions):
        assert array.base is None


@pytest.mark.parametrize(("ploidy", "num_haplotypes"), [(1, 5), (4, 8)])
def test_ploidy(ploidy: int, num_haplotypes: int) -> None:
    """E[S] = 2 · ploidy · Nμ L a_n: N tetraploids are as many chromosomes as 2N diploids."""
    simulation = section(ploidy=ploidy, num_haplotypes=num_haplotypes, discrete_genome=False)
    sites = np.array([len(example.positions) for example in examples(simulation, 300)])
    assert standard_errors(sites, 2 * ploidy * 1000 * 1e-7 * 1e4 * (1 / np.arange(1, num_haplotypes)).sum()) < 4


def same_example(
    simulation: Simulator, parameters: dict[str, float], demography: msprime.Demography, samples: Any
) -> None:
    """The simulator's example is what msprime gives for this demography and the same seeds."""
    generator = seeds.generator(1, "simulation", 0)
    ancestry = msprime.sim_ancestry(
        samples,
        demography=demography,
        sequence_length=simulation.sequence_length,
        recombination_rate=1e-8,
        random_seed=seeds.msprime_seed(generator),
    )
    expected = msprime.sim_mutations(ancestry, rate=1e-7, random_seed=seeds.msprime_seed(generator))
    found = simulation.simulate(parameters, seeds.generator(1, "simulation", 0))
    assert expected.num_sites > 10
    np.testing.assert_array_equal(found.genotypes, expected.genotype_matrix())
    np.testing.assert_array_equal(found.positions, expected.tables.sites.position)


def test_size_change_is_msprimes() -> None:
    parameters = {"recent_size": 500.0, "event_time": 100.0, "event_size": 5000.0}
    simulation = section("size_change", parameters=parameters)
    demography = msprime.Demography()
    demography.add_population(name="A", initial_size=500)
    demography.add_population_parameters_change(time=100, initial_size=5000)
    rates = {"mutation_rate": 1e-7, "recombination_rate": 1e-8}
    same_example(simulation, parameters | rates, demography, 5)


def test_epochs_are_msprimes() -> None:
    parameters = {"size_0": 2000.0, "size_1": 5000.0, "size_2": 900.0}
    simulation = section("piecewise_constant", times=[100, 1000], parameters=parameters)
    demography = msprime.Demography()
    demography.add_population(name="A", initial_size=2000)
    demography.add_population_parameters_change(time=100, initial_size=5000)
    demography.add_population_parameters_change(time=1000, initial_size=900)
    same_example(simulation, parameters | {"mutation_rate": 1e-7, "recombination_rate": 1e-8}, demography, 5)


def test_spidna_prior() -> None:
    """Sanchez et al. 2021: 21 epochs, t_i = (exp(ln(1 + 0.06 T) i / 20) − 1) / 0.06; each size within a factor 10 of the last."""
    simulation = section(
        "piecewise_constant",
        times={"epochs": 21, "oldest": 130_000, "rate": 0.06},
        parameters={
            "size_0": {"loguniform": [10, 1e5]},
            "size_*": {"loguniform": [0.1, 10], "times": "previous", "within": [10, 1e5]},
        },
    )
    assert list(simulation.parameters) == [f"size_{epoch}" for epoch in range(21)]
    starts = simulation.starts({})  # type: ignore[attr-defined]
    for i, start in enumerate(starts, start=1):
        assert start == pytest.approx((np.exp(np.log(1 + 0.06 * 130_000) * i / 20) - 1) / 0.06)
    assert starts[-1] == pytest.approx(130_000)
    for scenario in range(200):
        drawn = priors.draw(simulation.parameters, seeds.generator(1, "parameters", scenario))
        sizes = np.log10([drawn[f"size_{epoch}"] for epoch in range(21)])
        assert sizes.min() >= 1 and sizes.max() <= 5
        assert (np.abs(np.diff(sizes)) <= 1 + 1e-12).all()
    assert simulation_section(simulation.model_dump()) == simulation


def test_one_prior_for_all_epochs() -> None:
    simulation = section(
        "piecewise_constant", times=[10, 20], parameters={"size_*": {"uniform": [10, 20]}, "size_1": 5}
    )
    assert [prior.distribution for prior in simulation.parameters.values()] == ["uniform", "constant", "uniform"]


@pytest.fixture(scope="session")
def demes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demes") / "model.yaml"
    path.write_text(DEMES)
    return path


def test_demes_sets_and_multiplies(demes_file: Path) -> None:
    simulation = section(
        "demes",
        model=str(demes_file),
        num_haplotypes={"C": 4, "B": 6},
        set={"size": ["demes.B.epochs.1.end_size", "demes.C.epochs.0.start_size"]},
        multiply={"factor": ["demes.*.epochs.0.start_size"]},
        parameters={"size": 700, "factor": 2},
    )
    assert demes_file in simulation.input_files()
    demography = simulation.demography({"size": 700.0, "factor": 2.0}).debug()  # type: ignore[attr-defined]
    today, earlier, oldest = demography.population_size_trajectory([0, 500, 3000])
    assert today[1:] == pytest.approx([700, 1400])
    assert earlier[1:] == pytest.approx([1000, 1400])  # 12,500 years ago, before B changed
    assert oldest[0] == pytest.approx(2000)
    example = examples(simulation, 1)[0]
    assert example.genotypes.shape[1] == 10


def test_demes_without_changes_is_msprimes(demes_file: Path) -> None:
    import demes

    simulation = section("demes", model=str(demes_file), num_haplotypes={"C": 4, "B": 6}, parameters={})
    demography = msprime.Demography.from_demes(demes.load(demes_file))
    same_example(simulation, {"mutation_rate": 1e-7, "recombination_rate": 1e-8}, demography, {"C": 2, "B": 3})


def test_stdpopsim_model_is_msprimes() -> None:
    import stdpopsim

    keys = {"species": "HomSap", "model": "OutOfAfrica_3G09", "num_haplotypes": {"YRI": 4, "CEU": 6}}
    demography = stdpopsim.get_species("HomSap").get_demographic_model("OutOfAfrica_3G09").model
    rates = {"mutation_rate": 1e-7, "recombination_rate": 1e-8}
    same_example(section("stdpopsim", parameters={}, **keys), rates, demography, {"YRI": 2, "CEU": 3})
    halved = section(
        "stdpopsim", multiply={"factor": ["demes.*.epochs.*.start_size"]}, parameters={"factor": 0.5}, **keys
    )
    found = halved.demography({"factor": 0.5})  # type: ignore[attr-defined]
    assert found["YRI"].initial_size == demography["YRI"].initial_size / 2


DISTANCES = np.array([0, 300, 1000, 3000, 10_000])


def mean_r2(simulated: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Mean r² between sites that are common enough, in bins of their distance, and its standard errors over examples."""
    totals, counts = np.zeros((2, len(simulated), len(DISTANCES) - 1))
    for total, count, example in zip(totals, counts, simulated, strict=True):
        frequencies = example.genotypes.mean(axis=1)
        common = (frequencies >= 0.2) & (frequencies <= 0.8)
        if common.sum() < 2:
            continue
        squared = np.corrcoef(example.genotypes[common]) ** 2
        positions = example.positions[common]
        first, second = np.triu_indices(len(positions), 1)
        bins = np.digitize(positions[second] - positions[first], DISTANCES) - 1
        total += np.bincount(bins, squared[first, second], len(DISTANCES))[: len(total)]
        count += np.bincount(bins, minlength=len(DISTANCES))[: len(count)]
    means = totals.sum(axis=0) / counts.sum(axis=0)
    return means, np.sqrt(np.square(totals - means * counts).sum(axis=0)) / counts.sum(axis=0)


def test_smck_has_hudsons_linkage() -> None:
    """r² by distance within four standard errors, which are below 5 %; twice the recombination would be far outside."""
    keys = {"num_haplotypes": 20, "discrete_genome": False, "sequence_length": 200_000}
    hudson, smck, wrong = (
        mean_r2(examples(section(ancestry_model=model, recombination_rate=rate, **keys), 200))
        for model, rate in (("hudson", 1e-7), ("smck", 1e-7), ("smck", 2e-7))
    )
    assert hudson[0][0] > 1.5 * hudson[0][-1]

    def distances(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return np.abs(one[0] - other[0]) / np.hypot(one[1], other[1])

    assert (hudson[1] < 0.05 * hudson[0]).all() and (smck[1] < 0.05 * smck[0]).all()
    assert (distances(smck, hudson) < 4).all()
    assert (distances(wrong, hudson)[2:] > 4).all()


def hapmap(path: Path, lines: list[str], header: bool = True) -> dict[str, str]:
    text = "\n".join([*(["Chromosome\tPosition(bp)\tRate(cM/Mb)\tMap(cM)"] if header else []), *lines]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return {"map": str(path)}


STEPS = ["chr20 1000 0 0", "chr20 11000 100 0", "chr20 21000 0 1.0", "chr20 31000 0 1.0"]


@pytest.mark.parametrize("name", ["map.txt", "map.txt.gz"])
@pytest.mark.parametrize("header", [True, False])
def test_recombination_follows_the_map(tmp_path: Path, name: str, header: bool) -> None:
    """The map recombines between 11 and 21 kb only, so the ends of a window from 1 to 31 kb are single trees."""
    recombination_rate = hapmap(tmp_path / name, STEPS, header)
    simulation = section(recombination_rate=recombination_rate, sequence_length=30000)
    assert simulation.input_files() == [tmp_path / name]
    parameters = {"population_size": 1000.0, "mutation_rate": 1e-8}
    breakpoints = np.concatenate(
        [
            list(simulation.tree_sequence(parameters, seeds.generator(1, "simulation", i)).breakpoints())[1:-1]
            for i in range(5)
        ]
    )
    assert len(breakpoints) > 20
    assert breakpoints.min() >= 10000 and breakpoints.max() <= 20000


def test_windows_are_random_stretches_of_the_map(tmp_path: Path) -> None:
    simulation = section(recombination_rate=hapmap(tmp_path / "map", STEPS) | {"region": [11000, 31000]})
    masses = [
        simulation._recombination({}, seeds.generator(1, "simulation", example)).total_mass  # type: ignore[attr-defined]
        for example in range(200)
    ]
    assert min(masses) < 0.001 and max(masses) > 0.009
    assert standard_errors(np.array(masses), 0.005) < 4


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (STEPS, "covers 30,000 bp, but simulation.sequence_length is 40,000"),
        ([], "cannot read the recombination map"),
        (["61795 20 0.0", "63231 20 0.1"], "expected HapMap format"),
        ([STEPS[2], STEPS[1]], "not strictly increasing"),
        (["chr20 1000 a b"], "cannot read the recombination map"),
    ],
)
def test_maps_that_cannot_be_used(tmp_path: Path, lines: list[str], message: str) -> None:
    simulation = section(recombination_rate=hapmap(tmp_path / "map", lines), sequence_length=40000)
    with pytest.raises(PopdlError, match=f"map: .*{message}"):
        examples(simulation, 1)


def test_missing_and_truncated_maps(tmp_path: Path) -> None:
    simulation = section(recombination_rate={"map": str(tmp_path / "absent")})
    with pytest.raises(PopdlError, match="absent: cannot read the recombination map: No such file"):
        examples(simulation, 1)
    values = hapmap(tmp_path / "map.gz", STEPS)
    (tmp_path / "map.gz").write_bytes((tmp_path / "map.gz").read_bytes()[:30])
    with pytest.raises(PopdlError, match=r"map.gz: cannot read the recombination map"):
        examples(section(recombination_rate=values), 1)


@pytest.mark.skipif(not MAP.exists(), reason=f"needs the human chr20 map, {MAP}")
def test_human_map() -> None:
    simulation = section(recombination_rate={"map": str(MAP), "region": [1e6, 4e6]}, sequence_length=1e6)
    assert simulation.rate_map.sequence_length == 3e6  # type: ignore[attr-defined]
    assert 1e-9 < simulation.rate_map.mean_rate < 1e-7  # type: ignore[attr-defined]
    assert len(examples(simulation, 1)[0].positions) > 100


@pytest.mark.parametrize(
    ("simulator", "changes", "message"),
    [
        ("constant_size", {"parameters": {}}, "missing .'population_size'"),
        (
            "constant_size",
            {"parameters": {"population_size": {"uniform": [0, 10]}}},
            "population_size: must be positive",
        ),
        ("constant_size", {"mutation_rate": {"uniform": [-1, 10]}}, "mutation_rate: a rate cannot be negative"),
        ("constant_size", {"sequence_length": 10.5}, "expected a whole number of bp, found 10.5"),
        ("constant_size", {"num_haplotypes": 5}, "positive multiple of the ploidy"),
        ("constant_size", {"num_haplotypes": {"CEU": 4}}, "unknown population CEU; known: pop_0"),
        ("constant_siz", {}, "did you mean 'constant_size'"),
        (
            "piecewise_constant",
            {"times": [10, 5], "parameters": {"size_*": 10}},
            "expected positive numbers in rising order",
        ),
        ("piecewise_constant", {"times": [10], "parameters": {"size_0": 10}}, "missing .'size_1'"),
        ("piecewise_constant", {"times": [10], "parameters": {"size_*": 10, "size_7": 1}}, "unknown .'size_7'"),
        (
            "piecewise_constant",
            {"times": [10], "parameters": {"size_*": {"uniform": [1, 2], "times": "previous"}}},
            "is not a parameter that is drawn before it",
        ),
        (
            "piecewise_constant",
            {"times": {"epochs": 1, "oldest": 10}, "parameters": {"size_*": 1}},
            "of at least 2",
        ),
        ("demes", {"model": "absent.yaml", "parameters": {}}, "cannot read absent.yaml: No such file"),
        ("stdpopsim", {"species": "HomSa", "model": "x", "parameters": {}}, "did you mean 'HomSap'"),
        ("stdpopsim", {"species": "HomSap", "model": "OutOfAfrica", "parameters": {}}, "known: .*OutOfAfrica_3G09"),
    ],
)
def test_bad_configs(simulator: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        section(simulator, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_haplotypes": 10}, "several populations, give a number for each"),
        ({"num_haplotypes": {"D": 10}}, "unknown population D; known: A, B, C"),
        ({"set": {"x": ["demes.D.epochs.0.start_size"]}, "parameters": {"x": 1}}, "there is no 'D' in the model"),
        ({"set": {"x": ["demes.A.epochs"]}, "parameters": {"x": 1}}, "demes.A.epochs is not a number"),
        ({"multiply": {"x": ["time_units"]}, "parameters": {"x": 1}}, "time_units is not a number"),
        ({"parameters": {"x": 1}}, "unknown .'x'"),
    ],
)
def test_bad_paths(demes_file: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        section("demes", **({"model": str(demes_file), "num_haplotypes": {"A": 10}, "parameters": {}} | changes))


def test_file_that_is_no_demes_model(tmp_path: Path) -> None:
    for number, text in enumerate(["a: [", "demes: 3", "\x00"]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        with pytest.raises(PopdlError, match="is not a valid demes model"):
            section("demes", model=str(path), parameters={})


def test_parameters_that_msprime_refuses(demes_file: Path) -> None:
    simulation = section(
        "demes",
        model=str(demes_file),
        num_haplotypes={"A": 10},
        set={"rate": ["migrations.0.rate"]},
        parameters={"rate": 7},
    )
    with pytest.raises(PopdlError, match=r"msprime refuses .*rate = 7, .*; check the priors"):
        examples(simulation, 1)

"""An external program as a simulator: what it is given, what is read back, and what is said when it fails."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import msprime
import numpy as np
import pytest

from popdl import seeds
from popdl.config.study import simulation_section
from popdl.errors import PopdlError
from popdl.simulation import simulate_shard
from popdl.store import read_shard

# Prints as many sites as its first argument says, drawn from its seed, and appends its arguments to a file beside it.
STAND_IN = """\
import random, sys
from pathlib import Path
with open(Path(__file__).with_suffix(".log"), "a") as log:
    print(*sys.argv[1:], sep="|", file=log)
haplotypes, sites, seed = int(sys.argv[1]), int(float(sys.argv[2])), int(sys.argv[3])
random.seed(seed)
print("stand_in", "-s", sites, "\\n", seed, "\\n\\n//", "\\nsegsites:", sites, sep="")
print("positions:", *sorted(random.random() for _ in range(sites)))
for _ in range(haplotypes):
    print("".join(random.choice("01") for _ in range(sites)))
"""
WRITES_TREES = """\
import sys
import msprime
ancestry = msprime.sim_ancestry(int(sys.argv[1]), ploidy=1, sequence_length=1000, population_size=1000, random_seed=int(sys.argv[2]))
if sys.argv[4:]:
    ancestry = msprime.sim_mutations(ancestry, rate=float(sys.argv[4]), random_seed=1)
ancestry.dump(sys.argv[3])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in a folder with a space in its name."""
    path = tmp_path / "a folder" / "stand_in.py"
    path.parent.mkdir()
    path.write_text(STAND_IN)
    return path


def section(program: Path | str, arguments: str = "{num_haplotypes} {sites} {seed}", **changes: Any) -> Any:
    return simulation_section(
        {
            "simulator": "command",
            "command": f"'{sys.executable}' '{program}' {arguments}",
            "num_haplotypes": 6,
            "sequence_length": 1000,
            "parameters": {"sites": {"choice": [3, 7]}},
            "num_scenarios": 4,
            "shard_size": 2,
            **changes,
        }
    )


def test_shards_hold_what_the_program_printed(program: Path, tmp_path: Path) -> None:
    simulation = section(program)
    for shard in (1, 0):
        simulate_shard(simulation, seed=5, shard=shard, output=tmp_path / f"shard_{shard}")
    for shard in range(2):
        read = read_shard(tmp_path / f"shard_{shard}", kind="simulations")
        assert read.attributes["parameters"] == ["sites"]
        np.testing.assert_array_equal(np.diff(read["offsets"]), read["parameters"][:, 0])
        assert read["genotypes"].shape[1] == 6
    log = program.with_suffix(".log").read_text().splitlines()
    assert len({line.split("|")[2] for line in log}) == 4  # every example has a seed of its own
    simulate_shard(simulation, seed=5, shard=1, output=tmp_path / "again")
    assert (
        read_shard(tmp_path / "again", kind="simulations").digest
        == read_shard(tmp_path / "shard_1", kind="simulations").digest
    )


def test_placeholders(program: Path) -> None:
    """Values are words of their own, whole numbers have no point, words stay words, formats hold."""
    simulation = section(
        program,
        "{num_haplotypes} {sites} {seed} {sequence_length} {rate:.3f} x={kind} {mutation_rate}",
        parameters={"sites": 3, "rate": 0.123456, "kind": {"choice": ["a b; $(touch /tmp/x)", "c"]}},
        mutation_rate=1e-8,
    )
    parameters = {"sites": 3.0, "rate": 0.123456, "kind": 0.0, "mutation_rate": 1e-8}
    simulation.simulate(parameters, np.random.default_rng(1))
    (line,) = program.with_suffix(".log").read_text().splitlines()
    haplotypes, sites, seed, *others = line.split("|")
    assert (haplotypes, sites) == ("6", "3") and 1 <= int(seed) < 2**31
    assert others == ["1000", "0.123", "x=a b; $(touch /tmp/x)", "1e-08"]


def test_files_in_the_command_are_inputs(program: Path) -> None:
    assert program in section(program).input_files()


@pytest.mark.parametrize("rate", [1e-3, None])
def test_tree_sequences(tmp_path: Path, rate: float | None) -> None:
    """Sites are read from the file; where there are none, they are added at the rate of the config."""
    path = tmp_path / "writes_trees.py"
    path.write_text(WRITES_TREES)
    arguments = "{num_haplotypes} {seed} {output}" + ("" if rate is None else " {rate}")
    parameters = {} if rate is None else {"rate": rate}
    changes: dict[str, Any] = {} if rate is not None else {"mutation_rate": 1e-5}
    simulation = section(path, arguments, output="trees", parameters=parameters, **changes)
    example = simulation.simulate({**parameters, **changes}, seeds.generator(1, "simulation", 0))
    seed = int(seeds.generator(1, "simulation", 0).integers(1, 2**31))
    ancestry = msprime.sim_ancestry(6, ploidy=1, sequence_length=1000, population_size=1000, random_seed=seed)
    assert example.genotypes.shape == (len(example.positions), 6)
    if rate is not None:
        expected = msprime.sim_mutations(ancestry, rate=rate, random_seed=1)
        np.testing.assert_array_equal(example.genotypes, expected.genotype_matrix())
    else:
        # 2 N μ L a_n = 46 sites are expected of N = 1000 haploids (Watterson 1975), and each adds a mutation of its own.
        assert 10 < len(example.positions) < 150


def test_tree_sequences_without_mutations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "writes_trees.py"
    path.write_text(WRITES_TREES)
    simulation = section(path, "{num_haplotypes} {seed} {output}", output="trees", parameters={})
    with pytest.raises(PopdlError, match=r"output of `.*writes_trees.*: there are no sites; give the mutation_rate"):
        simulation.simulate({}, np.random.default_rng(1))


@pytest.mark.skipif(shutil.which("scrm") is None, reason="scrm is not installed (apt-get install scrm)")
def test_scrm_meets_theory() -> None:
    """E[S] = θ a_n without and with recombination (Watterson 1975), within four standard errors."""
    simulation = simulation_section(
        {
            "simulator": "command",
            "command": "scrm {num_haplotypes} 1 -t {theta} -r {rho} {sequence_length} -seed {seed}",
            "num_haplotypes": 10,
            "sequence_length": 10_000,
            "parameters": {"theta": 8, "rho": 5},
            "num_scenarios": 1,
        }
    )
    sites = [
        len(simulation.simulate({"theta": 8.0, "rho": 5.0}, seeds.generator(3, "simulation", number)).positions)
        for number in range(200)
    ]
    expected = 8 * sum(1 / i for i in range(1, 10))
    assert abs(np.mean(sites) - expected) < 4 * np.std(sites) / np.sqrt(len(sites))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('out of\\nluck')", r"failed with exit code 1:\n  out of\n  luck"),
        ("import sys; sys.exit(3)", r"failed with exit code 3:\n  \(it said nothing\)"),
        ("", "printed 0 replicates of ms text, expected one"),
        ("print('//\\nsegsites: 0\\n\\n//\\nsegsites: 0')", "printed 2 replicates of ms text, expected one"),
        ("print('//\\nsegsites: 1\\npositions: 0.5\\n1')", "the text ends after 1 of 6 haplotypes"),
    ],
)
def test_a_failure_shows_the_command_line(tmp_path: Path, code: str, message: str) -> None:
    path = tmp_path / "fails.py"
    path.write_text(code)
    with pytest.raises(PopdlError, match=message) as refusal:
        section(path).simulate({"sites": 3.0}, np.random.default_rng(1))
    assert "fails.py 6 3 " in str(refusal.value)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    simulation = section("x", command="discoall {num_haplotypes} {sites} {seed}")
    with pytest.raises(
        PopdlError, match=r"`discoall 6 3 .*` cannot be run: .*; install discoall, or correct the command"
    ):
        simulation.simulate({"sites": 3.0}, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "scrm {sites} {sede}"}, r"command: \{sede\} means nothing; did you mean 'seed'"),
        ({"command": "scrm {sites}"}, r"command: there is no \{seed\} in it"),
        ({"command": "scrm {seed}"}, "the parameter sites is not used in it"),
        ({"command": "scrm {sites.real} {seed}"}, r"command: \{sites\.real\} means nothing"),
        ({"command": "scrm '{sites} {seed}"}, "command: No closing quotation"),
        ({"command": "scrm {sites {seed}"}, "command: "),
        ({"command": "scrm {sites} {seed} {output}"}, r"\{output\} means nothing"),
        ({"command": "slim {sites} {seed}", "output": "trees"}, r"there is no \{output\} in it"),
        (
            {"num_haplotypes": {"a": 2, "b": 4}},
            "num_haplotypes: give one number, and write populations into the command",
        ),
        ({"recombination_rate": {"map": "x"}}, "recombination_rate"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        section("x", **changes)


def test_a_format_that_does_not_fit() -> None:
    simulation = section("x", command="scrm {sites:d} {seed}", parameters={"sites": 3.5})
    with pytest.raises(PopdlError, match="cannot be filled in: Unknown format code 'd'"):
        simulation.simulate({"sites": 3.5}, np.random.default_rng(1))

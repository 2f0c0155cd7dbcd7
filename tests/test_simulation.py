"""Shards of simulations: the same bytes however they are made, nothing half-written, and nothing heavy imported."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from limits import small_files

from popdl import seeds, store
from popdl.config.application import SimulatedGenome
from popdl.config.study import simulation_section
from popdl.errors import PopdlError
from popdl.genome import simulate_genome
from popdl.simulation import simulate_shard
from popdl.simulators._base import Simulator

SECTION: dict[str, Any] = {
    "simulator": "size_change",
    "num_haplotypes": 6,
    "sequence_length": 1e4,
    "mutation_rate": 1e-8,
    "recombination_rate": {"uniform": [1e-9, 1e-8]},
    "parameters": {
        "recent_size": {"loguniform": [5000, 50000]},
        "event_size": {"loguniform": [0.1, 10], "times": "recent_size", "within": [5000, 50000]},
        "event_time": {"uniform": [80, 4000]},
    },
    "num_scenarios": 7,
    "replicates": 3,
    "shard_size": 5,
}
NUM_SHARDS = 5


def section(**changes: Any) -> Simulator:
    return simulation_section(SECTION | changes)


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def simulate_one(folder: str, shard: int) -> None:
    """For processes of their own."""
    simulate_shard(section(), seed=1, shard=shard, output=Path(folder) / f"shard_{shard}")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "simulations.zarr"
    for shard in range(NUM_SHARDS):
        simulate_one(str(folder), shard)
    return folder


def read(folder: Path) -> list[store.Shard]:
    return [store.read_shard(path, kind="simulations") for path in store.shard_paths(folder)]


def test_shards_hold_all_examples(study: Path) -> None:
    first = 0
    for shard in read(study):
        count = shard.attributes["num_examples"]
        assert shard.attributes["first_example"] == first
        assert shard["genotypes"].dtype == np.int8
        assert shard["genotypes"].shape == (shard["offsets"][-1], 6)
        assert shard["positions"].shape == (shard["offsets"][-1],)
        assert len(shard["offsets"]) == count + 1
        np.testing.assert_array_equal(shard["scenario"], np.arange(first, first + count) // 3)
        first += count
    assert first == 21
    attributes = read(study)[0].attributes
    assert attributes["parameters"] == [
        "event_size",
        "event_time",
        "mutation_rate",
        "recent_size",
        "recombination_rate",
    ]
    assert attributes["populations"] is None
    assert attributes["classes"] == {}
    assert "num_scenarios" not in attributes["simulation"]


def test_order_of_keys_in_the_config_changes_no_byte(study: Path, tmp_path: Path) -> None:
    parameters = dict(reversed(SECTION["parameters"].items()))
    simulate_shard(section(parameters=parameters), seed=1, shard=1, output=tmp_path / "shard_1")
    assert contents(tmp_path / "shard_1") == contents(study / "shard_1")


def test_replicates_share_parameters_and_nothing_else(study: Path) -> None:
    shards = read(study)
    parameters = np.concatenate([shard["parameters"] for shard in shards])
    for scenario in range(7):
        assert (parameters[3 * scenario : 3 * scenario + 3] == parameters[3 * scenario]).all()
    assert len(np.unique(parameters, axis=0)) == 7
    positions = {
        tuple(shard["positions"][start:end])
        for shard in shards
        for start, end in zip(shard["offsets"], shard["offsets"][1:], strict=False)
    }
    assert len(positions) == 21


def test_an_example_is_made_from_its_own_numbers(study: Path) -> None:
    """Example 7 is row 2 of shard 1: scenario 2, and the generator of example 7."""
    shard = read(study)[1]
    parameters = dict(zip(shard.attributes["parameters"], shard["parameters"][2], strict=True))
    example = section().simulate(parameters, seeds.generator(1, "simulation", 7))
    rows = slice(*shard["offsets"][2:4])
    np.testing.assert_array_equal(shard["genotypes"][rows], example.genotypes)
    np.testing.assert_array_equal(shard["positions"][rows], example.positions)


def test_order_and_number_of_processes_change_no_byte(study: Path, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(simulate_one, [(str(tmp_path), shard) for shard in reversed(range(NUM_SHARDS))])
    for shard in range(NUM_SHARDS):
        assert contents(tmp_path / f"shard_{shard}") == contents(study / f"shard_{shard}")


def test_more_scenarios_leave_full_shards_alone(study: Path, tmp_path: Path) -> None:
    more = section(num_scenarios=8)
    for shard in range(NUM_SHARDS):
        simulate_shard(more, seed=1, shard=shard, output=tmp_path / f"shard_{shard}")
        same = contents(tmp_path / f"shard_{shard}") == contents(study / f"shard_{shard}")
        assert same == (shard < NUM_SHARDS - 1)
    longer, shorter = (store.read_shard(folder / "shard_4", kind="simulations") for folder in (tmp_path, study))
    assert longer.attributes["num_examples"] == 4
    sites = shorter["offsets"][-1]
    np.testing.assert_array_equal(longer["genotypes"][:sites], shorter["genotypes"])


def test_another_seed_gives_other_simulations(study: Path, tmp_path: Path) -> None:
    simulate_shard(section(), seed=2, shard=0, output=tmp_path / "shard_0")
    other = store.read_shard(tmp_path / "shard_0", kind="simulations")
    assert not np.isin(other["parameters"][:, 0], read(study)[0]["parameters"][:, 0]).any()


@pytest.mark.parametrize("shard", [-1, NUM_SHARDS])
def test_no_such_shard(tmp_path: Path, shard: int) -> None:
    with pytest.raises(PopdlError, match="the study has 21 examples in 5 shards, numbered from 0"):
        simulate_shard(section(), seed=1, shard=shard, output=tmp_path / "shard")


def test_windows_without_sites_are_examples_too(tmp_path: Path) -> None:
    simulate_shard(section(mutation_rate=0), seed=1, shard=0, output=tmp_path / "shard_0")
    shard = store.read_shard(tmp_path / "shard_0", kind="simulations")
    assert shard["genotypes"].shape == (0, 6)
    np.testing.assert_array_equal(shard["offsets"], 0)


PLUGIN = """
import numpy as np
from popdl.simulators._base import Example, Simulator

class Mine(Simulator):
    needs = ("kind",)
    def derived_parameters(self):
        return ("doubled",)
    def derive(self, parameters):
        return {"doubled": 2 * parameters["kind"]}
    def simulate(self, parameters, generator):
        positions = np.sort(generator.uniform(0, self.sequence_length, 4))
        return Example(np.full((4, self.total_haplotypes), int(parameters["kind"]), np.int8), positions)

class WrongShape(Mine):
    def simulate(self, parameters, generator):
        return Example(np.zeros((3, self.total_haplotypes), np.int8), np.arange(4.0))

class WrongOrder(Mine):
    def simulate(self, parameters, generator):
        return Example(np.zeros((2, self.total_haplotypes), np.int8), np.array([2.0, 1.0]))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PLUGIN)
    return tmp_path


def own(name: str) -> Simulator:
    return section(simulator=f"mine.py:{name}", parameters={"kind": {"choice": ["neutral", "sweep"]}})


def test_a_users_own_simulator(project: Path) -> None:
    simulate_shard(own("Mine"), seed=1, shard=0, output=project / "shard_0")
    shard = store.read_shard(project / "shard_0", kind="simulations")
    assert shard.attributes["parameters"] == ["kind", "mutation_rate", "recombination_rate", "doubled"]
    assert shard.attributes["classes"] == {"kind": ["neutral", "sweep"]}
    np.testing.assert_array_equal(shard["genotypes"][::4, 0], shard["parameters"][:, 0])
    np.testing.assert_array_equal(shard["parameters"][:, 3], 2 * shard["parameters"][:, 0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WrongShape", r"genotypes are int8 \(3, 6\), expected int8 \(4, 6\)"),
        ("WrongOrder", "positions must rise from 0"),
    ],
)
def test_a_simulator_that_breaks_its_promise(project: Path, name: str, message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        simulate_shard(own(name), seed=1, shard=0, output=project / "shard_0")
    assert not (project / "shard_0").exists()


def test_a_killed_job_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    """Killed while it writes, a job leaves a folder that no one takes for a shard, and that the next job removes."""
    script = (
        "import sys, time; from pathlib import Path; import test_simulation as t\n"
        "original = Path.write_bytes\n"
        "def slow(self, content):\n"
        "    original(self, content); print('wrote', flush=True); time.sleep(0.2 if self.name == 'zarr.json' else 60)\n"
        "Path.write_bytes = slow\n"
        "t.simulate_one(sys.argv[1], 0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parent, stdout=subprocess.PIPE
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"wrote\n"
        os.kill(job.pid, signal.SIGKILL)
    assert [name.partition("-")[0] for name in os.listdir(tmp_path)] == [".shard_0.partial"]
    assert store.shard_paths(tmp_path) == []
    with pytest.raises(PopdlError, match="not a complete shard"):
        store.read_shard(tmp_path / "shard_0", kind="simulations")
    simulate_one(str(tmp_path), 0)
    assert os.listdir(tmp_path) == ["shard_0"]
    store.verify_shard(tmp_path / "shard_0")


def run_python(script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_shard_job_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import json, sys; from pathlib import Path\n"
        "from popdl.config.study import simulation_section; from popdl.simulation import simulate_shard\n"
        "simulation = simulation_section(json.loads(sys.argv[1]))\n"
        "simulate_shard(simulation, seed=1, shard=0, output=Path(sys.argv[2]) / 'shard_0')\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    loaded = set(run_python(script, json.dumps(SECTION), str(tmp_path)))
    assert "msprime" in loaded
    heavy = {"torch", "pandas", "matplotlib", "scipy.stats", "sklearn", "stdpopsim", "cyvcf2", "lightning_fabric"}
    assert not loaded & heavy


def test_tuned_memory_changes_no_bit() -> None:
    """A simulation large enough to need many of the smaller blocks, before and after."""
    script = (
        "import json, msprime; from popdl.simulators._memory import tune_memory\n"
        "def run():\n"
        "    return msprime.sim_ancestry(20, population_size=1e4, sequence_length=1e7, recombination_rate=1e-8,\n"
        "                                random_seed=1, record_provenance=False)\n"
        "before = run(); tune_memory(); after = run()\n"
        "print(json.dumps([before.num_edges, before == after, msprime.ancestry.Simulator.__module__]))\n"
    )
    num_edges, same, module = run_python(script)
    assert num_edges > 8_000
    assert same
    assert module == "popdl.simulators._memory"


GENOME = SimulatedGenome(
    parameters={"recent_size": 2e4, "event_size": 1e4, "event_time": 500, "recombination_rate": 1e-8},
    sequence_length=1e5,
    num_individuals=4,
)


def test_simulated_genome_is_a_vcf(tmp_path: Path) -> None:
    from cyvcf2 import VCF

    for name in ("one", "two"):
        simulate_genome(section(), GENOME, seed=1, name=name, output=tmp_path / name / "genome.vcf.gz")
    simulate_genome(section(), GENOME, seed=1, name="one", output=tmp_path / "again.vcf.gz")
    assert os.listdir(tmp_path / "one") == ["genome.vcf.gz"]
    one, two, again = (tmp_path / name for name in ("one/genome.vcf.gz", "two/genome.vcf.gz", "again.vcf.gz"))
    assert one.read_bytes() == again.read_bytes() != two.read_bytes()
    vcf = VCF(str(one))
    assert vcf.samples == ["ind_0", "ind_1", "ind_2", "ind_3"]
    assert (vcf.seqnames, vcf.seqlens) == (["1"], [100_000])
    records = list(vcf)
    assert len(records) > 50
    assert all(1 <= record.POS <= 100_000 for record in records)
    assert all(record.gt_phases.all() for record in records)


def test_simulated_genome_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "genome.vcf.gz"
    simulate_genome(section(), GENOME, seed=1, name="one", output=output)
    size = output.stat().st_size
    output.unlink()
    for room in (0, size // 2, size - 1):
        with small_files(room), pytest.raises(PopdlError, match=r"genome.vcf.gz: cannot write .* may be full"):
            simulate_genome(section(), GENOME, seed=1, name="one", output=output)
        assert not list(tmp_path.iterdir())


def test_simulated_genome_needs_every_parameter(tmp_path: Path) -> None:
    genome = GENOME.model_copy(update={"parameters": {"recent_size": 2e4, "event_size": 1e4}})
    with pytest.raises(
        PopdlError, match=r"applications.sim.simulate.parameters: event_time, recombination_rate missing"
    ):
        simulate_genome(section(), genome, seed=1, name="sim", output=tmp_path / "genome.vcf.gz")


def test_simulated_genome_needs_tree_sequences(project: Path) -> None:
    genome = GENOME.model_copy(update={"parameters": {"kind": 0, "recombination_rate": 1e-8}})
    with pytest.raises(PopdlError, match="Mine does not make tree sequences; give a `vcf` instead"):
        simulate_genome(own("Mine"), genome, seed=1, name="sim", output=project / "genome.vcf.gz")

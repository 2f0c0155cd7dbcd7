# Reading and refusing the config; the names that rules share. Runs again in every job, so it imports nothing heavy.
import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(workflow.current_basedir).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from popdl.config.reading import in_any_order, numbers_from_strings
from popdl.formats._files import matches
from popdl.stages import STAGES

config = numbers_from_strings(config)


def refuse_bad_config():
    """Let popdl itself check the config, once and before any job: its messages say what to do."""
    if not (
        workflow.is_main_process and find_spec("pydantic") and find_spec("msprime")
    ):
        return
    check = subprocess.run(
        [sys.executable, "-m", "popdl.cli", "check", "--config-only", "-"],
        input=json.dumps(config),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
    )
    if check.returncode:
        print(check.stderr, file=sys.stderr, end="")
        os._exit(check.returncode)


refuse_bad_config()

# Snakemake writes the interpreter's path into shell commands as it is; a space in it would cut it in two.
sys.executable = shlex.quote(sys.executable)

validate(config, "../schemas/config.schema.json", set_default=False)


RESULTS = f"results/{config['study']}"


pathvars:
    results=RESULTS,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


# Examples are simulated, or imported: both sections say how many there are in the same words.
SOURCE = "import" if config.get("import") else "simulation"
SIMULATION = in_any_order(config[SOURCE])
NUM_REPLICATES = SIMULATION.get("replicates", 1)
SHARD_SIZE = SIMULATION.get("shard_size", 500)
NUM_EXAMPLES = SIMULATION["num_scenarios"] * NUM_REPLICATES
SHARDS = range(-(-NUM_EXAMPLES // SHARD_SIZE))
MODELS = [
    f"{network}/{replicate}"
    for network in config["networks"]
    for replicate in range(config.get("training", {}).get("replicates", 1))
]
BASELINES = config.get("baselines", ["prior_mean", "ridge_sfs", "boosted_trees"])
APPLICATIONS = list(config.get("applications", {}))


wildcard_constraints:
    shard=r"\d+",
    network="|".join(config["networks"]),
    replicate=r"\d+",
    baseline="|".join(BASELINES) or "none",
    application="|".join(APPLICATIONS) or "none",


def shard_scenarios(wildcards):
    """Number of scenarios up to the end of a shard: the only part of `num_scenarios` on which the shard depends."""
    return min(
        -(-SHARD_SIZE * (int(wildcards.shard) + 1) // NUM_REPLICATES),
        SIMULATION["num_scenarios"],
    )


def plugin(name):
    """The user's own file behind a name such as `plugins/my_model.py:MyModel`, as a list for `input:`."""
    return [name.rpartition(":")[0]] if ".py:" in name else []


def network_plugin(wildcards):
    return plugin(config["networks"][wildcards.network].get("name", ""))


def transform_plugins(wildcards):
    entries = [
        entry for entries in section("transforms").values() for entry in entries or []
    ]
    names = [
        entry if isinstance(entry, str) else entry.get("name", "") for entry in entries
    ]
    return [file for name in names for file in plugin(name)]


def simulation_files():
    """The files that the simulation section names: its jobs depend on them."""
    if SOURCE == "import":
        return []
    rate, simulator = SIMULATION.get("recombination_rate"), SIMULATION["simulator"]
    rate_map = [rate["map"]] if isinstance(rate, dict) and "map" in rate else []
    model = [SIMULATION["model"]] if simulator == "demes" else []
    words = shlex.split(SIMULATION["command"]) if simulator == "command" else []
    programs = [word for word in words if Path(word).is_file()]
    return [*rate_map, *model, *programs, *plugin(simulator)]


def import_files():
    """The files that the import section names. Those of a dnadna data set, often a million, are not watched: its table is."""
    files, table = SIMULATION.get("files", []), SIMULATION.get("table")
    patterns = [
        *(files if isinstance(files, list) else [files]),
        *([table] if table else []),
    ]
    found = [path for pattern in patterns for path in matches(pattern) or [pattern]]
    return [*found, *plugin(SIMULATION["format"])]


def section(name, *keys):
    """A section of the config, or only some of its keys, for `params:`."""
    values = in_any_order(config.get(name, {}))
    return {key: values[key] for key in keys if key in values} if keys else values


def genome(wildcards):
    """The VCF of an application: the user's, or one that is simulated under known parameters."""
    vcf = config["applications"][wildcards.application].get("vcf")
    return vcf or f"{RESULTS}/applications/{wildcards.application}/genome.vcf.gz"


def sample_lists(wildcards):
    samples = config["applications"][wildcards.application].get("samples", {})
    return [samples[key] for key in ("file", "panel") if key in samples]

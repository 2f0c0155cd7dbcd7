# Reading and refusing the config; the names that rules share. Runs again in every job, so it imports nothing heavy.
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(workflow.current_basedir).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from popdl.config.reading import (
    INHERITS,
    in_any_order,
    numbers_from_strings,
    read_configs,
)
from popdl.errors import PopdlError
from popdl.formats._files import matches
from popdl.layout import ENSEMBLE, baseline_name
from popdl.stages import STAGES
from popdl.trials import (
    data_values,
    data_variants,
    draw_values,
    num_trials,
    of_source,
    source_values,
    source_variants,
    trial_over,
    with_values,
)

# Snakemake takes aliases that stand for billions of values, and keys written twice: popdl's own reader refuses them.
try:
    values = read_configs(workflow.configfiles, workflow.config_settings.config)
except PopdlError as error:
    print(error, file=sys.stderr)
    os._exit(2)
if config.get(INHERITS):
    # Snakemake has merged the files as they are; what they inherit must come before what they and --config change.
    config = values
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
REPLICATES = range(config.get("training", {}).get("replicates", 1))
MODELS = [
    f"{network}/{replicate}"
    for network in config["networks"]
    for replicate in REPLICATES
]
ENSEMBLES = [
    f"{network}/{ENSEMBLE}" for network in config["networks"] if len(REPLICATES) > 1
]
# By the names of their files.
BASELINES = {
    baseline_name(name): name
    for name in config.get("baselines", ["prior_mean", "ridge_sfs", "boosted_trees"])
}
STATISTICS = in_any_order(config.get("statistics", []))
# The statistics that baselines read. A param only where they are limited: all of them is what older results were made with.
BASELINE_STATISTICS = (
    {"statistics": config["baseline_statistics"]}
    if config.get("baseline_statistics")
    else {}
)
APPLICATIONS = list(config.get("applications", {}))


# What models say of the study.
ABOUT = {
    key: config[key] for key in ("authors", "licence", "citation") if config.get(key)
}


def section(name, *keys):
    """A section of the config, or only some of its keys, for `params:`."""
    values = in_any_order(config.get(name, {}))
    return {key: values[key] for key in keys if key in values} if keys else values


SEARCH, SEED = section("search"), config.get("seed", 42)
ON_THE_FLY = "on_the_fly" in (
    section("training").get("data"),
    *SEARCH.get("over", {}).get("training.data", []),
)
# Networks for which settings are searched, with the number of their trials.
TRIALS = {
    network: number
    for network in config["networks"]
    if (number := num_trials(SEARCH, network))
}
SEARCH_TABLE = ["<results>/search.tsv"] if TRIALS else []
# The data that a search chooses between, and the different examples behind them: see search.smk.
try:
    VARIANTS = data_variants(SEARCH, seed=SEED)
except ModuleNotFoundError as error:
    print(
        f"search: a random search over keys of the data draws while Snakemake reads the study, which needs {error.name}; "
        "install it beside Snakemake, or search a grid.",
        file=sys.stderr,
    )
    os._exit(2)
SOURCE_VARIANTS = source_variants(VARIANTS)
CHOSEN_DATA = ["<results>/variants/chosen.json"] if VARIANTS else []


wildcard_constraints:
    trial=r"\d+",
    variant=r"\d+",
    source=r"\d+",
    shard=r"\d+",
    network="|".join(config["networks"]),
    replicate=rf"\d+|{ENSEMBLE}",
    baseline="|".join(map(re.escape, BASELINES)) or "none",
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


def statistics_plugins():
    """The user's own files among the groups of statistics."""
    names = [group if isinstance(group, str) else group["name"] for group in STATISTICS]
    return [path for name in names for path in plugin(name)]


def trials(network):
    return [f"{RESULTS}/search/{network}/{trial}" for trial in range(TRIALS[network])]


def sections(values):
    """The sections that decide the data, with the values of a variant."""
    return with_values({SOURCE: SIMULATION, "encoding": section("encoding")}, values)


def trial_values(wildcards):
    """What the data of a trial has of the keys that are searched; nothing for a training that is no trial."""
    if not VARIANTS or "trial" not in wildcards.keys():
        return {}
    trial = int(wildcards.trial)
    over = trial_over(SEARCH, wildcards.network, trial)
    return data_values(draw_values(over, trial=trial, seed=SEED))


def of_trial(wildcards, name):
    """A file of the data that a trial learns from: the study's own, or that of a variant."""
    values = trial_values(wildcards)
    variant = f"variants/{VARIANTS.index(values)}/" if values else ""
    return f"{RESULTS}/{variant}{name}"


def variant_simulations(wildcards):
    """The raw shard behind an encoded one of a variant; those that differ by their encoding alone share the study's own."""
    values = source_values(VARIANTS[int(wildcards.variant)])
    source = f"variants/simulations/{SOURCE_VARIANTS.index(values)}/" if values else ""
    return f"{RESULTS}/{source}simulations.zarr/shard_{wildcards.shard}"


def simulated(values={}):
    """What a simulation job is told, but for `num_scenarios`, with the values of a variant."""
    return {
        key: value
        for key, value in sections(values)[SOURCE].items()
        if key != "num_scenarios"
    }


def told(wildcards):
    """What a training is told of where its examples come from."""
    return of_source(sections(trial_values(wildcards))[SOURCE], ABOUT)


def choice(wildcards):
    """Which settings a search has chosen for a network, and the trials that it has chosen from."""
    network = wildcards.network
    return (
        [f"{RESULTS}/search/{network}.json", *trials(network)]
        if network in TRIALS
        else []
    )


def members(wildcards):
    """The models of an ensemble, and none for a single training."""
    if wildcards.get("replicate", ENSEMBLE) != ENSEMBLE:
        return []
    return [
        f"{RESULTS}/models/{wildcards.network}/{number}.safetensors"
        for number in REPLICATES
    ]


def predictor(wildcards):
    """The file that predicts: a model, or an ensemble of models."""
    ending = "json" if wildcards.replicate == ENSEMBLE else "safetensors"
    return f"{RESULTS}/models/{wildcards.network}/{wildcards.replicate}.{ending}"


def training_threads():
    """Threads that train, and processes that simulate beside them."""
    training = section("training")
    workers = (training.get("workers") or 1) if ON_THE_FLY else 0
    return training.get("threads", 1) + workers


def training_files(wildcards):
    """The files that training a network reads: its own, those of losses, optimizer, schedule and transforms, and the model it starts from."""
    training = section("training")
    parts = [target.get("loss") for target in config["targets"].values()]
    parts += [training.get(key) for key in ("optimizer", "schedule")]
    parts += [part for parts in section("transforms").values() for part in parts or []]
    parts.append(config["networks"][wildcards.network].get("name"))
    names = [part["name"] if isinstance(part, dict) else part or "" for part in parts]
    start = training.get("initialise_from")
    if isinstance(start, dict):
        start = start.get(wildcards.network)
    own = [path for name in names for path in plugin(name)]
    return [
        *dict.fromkeys(own),
        *([start] if start else []),
        *(source_files(wildcards) if ON_THE_FLY else []),
    ]


def source_files(wildcards):
    """The files from which fresh examples are simulated: for a study that chooses its data, those of all that it chooses between."""
    one = trial_values(wildcards)
    values = [one] if one or not SOURCE_VARIANTS else SOURCE_VARIANTS
    return list(dict.fromkeys(path for one in values for path in simulation_files(one)))


def simulation_files(values={}):
    """The files that the simulation section names, with the values of a variant: its jobs depend on them."""
    if SOURCE == "import":
        return []
    simulation = sections(values)[SOURCE]
    rate, simulator = simulation.get("recombination_rate"), simulation["simulator"]
    rates = rate if isinstance(rate, dict) else {}
    rate_map = [rates[key] for key in ("map", "rate_from_map") if key in rates]
    model = [simulation["model"]] if simulator == "demes" else []
    words = shlex.split(simulation["command"]) if simulator == "command" else []
    programs = [word for word in words if Path(word).is_file()]
    return [*rate_map, *model, *programs, *plugin(simulator)]


def import_files(values={}):
    """The files that the import section names. Those of a dnadna data set, often a million, are not watched: its table is."""
    source = sections(values)[SOURCE]
    files, table = source.get("files", []), source.get("table")
    patterns = [
        *(files if isinstance(files, list) else [files]),
        *([table] if table else []),
    ]
    found = [path for pattern in patterns for path in matches(pattern) or [pattern]]
    return [*found, *plugin(source["format"])]


def genome(wildcards):
    """The VCF of an application: the user's, or one that is simulated under known parameters."""
    vcf = config["applications"][wildcards.application].get("vcf")
    return vcf or f"{RESULTS}/applications/{wildcards.application}/genome.vcf.gz"


def sample_lists(wildcards):
    samples = config["applications"][wildcards.application].get("samples", {})
    return [samples[key] for key in ("file", "panel") if key in samples]

"""Train one replicate of a network, or one trial of a search."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.base import validate
from popdl.config.training import Evaluation
from popdl.config.transforms import Transforms
from popdl.jobs import step
from popdl.layout import shards_beside
from popdl.search import run_trial, train_chosen
from popdl.variants import chosen_source

PLAIN = ("study", "options", "training", "seed", "priors", "about", "simulation")
params, wildcards, output = snakemake.params, snakemake.wildcards, snakemake.output
with step(snakemake.log[0]):
    shared = {
        **{name: getattr(params, name) for name in PLAIN},
        "key": wildcards.network,
        "evaluation": validate(Evaluation, params.evaluation, where="evaluation"),
        "transforms": validate(Transforms, params.transforms, where="transforms"),
        "shards": shards_beside(Path(snakemake.input.dataset), params.num_shards),
        "splits": Path(snakemake.input.splits),
        "targets": Path(snakemake.input.targets),
        "checkpoint": Path(params.checkpoint),
        "tensorboard": Path(params.tensorboard),
        "num_devices": snakemake.resources.get("devices", 1),
        "num_nodes": snakemake.resources.get("nodes", 1),
        "num_workers": max(1, snakemake.threads - params.training.get("threads", 1)),
    }
    if hasattr(wildcards, "trial"):
        run_trial(**shared, over=params.over, trial=int(wildcards.trial), output=Path(output[0]))
    else:
        shared |= chosen_source(snakemake.input.data, params.about)
        choice = [Path(path) for path in snakemake.input.choice[:1]]
        names = {"output": Path(output.model), "history": Path(output.history)}
        train_chosen(choice[0] if choice else None, **shared, **names, replicate=int(wildcards.replicate))

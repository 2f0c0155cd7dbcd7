"""Score networks and baselines on the test split."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from popdl.config.base import validate
from popdl.config.training import Evaluation
from popdl.evaluation import evaluate
from popdl.jobs import step

params = snakemake.params
with step(snakemake.log[0]):
    networks = zip(snakemake.input.networks, snakemake.input.models, strict=True)
    evaluate(
        networks={
            name: (Path(predictions), Path(model))
            for name, (predictions, model) in zip(params.models, networks, strict=True)
        },
        baselines=dict(zip(params.baselines, map(Path, snakemake.input.baselines), strict=True)),
        targets=Path(snakemake.input.targets),
        evaluation=validate(Evaluation, params.evaluation, where="evaluation"),
        seed=params.seed,
        output=Path(snakemake.output.metrics),
        table=Path(snakemake.output.table),
        replicates=params.replicates,
        ensembles=dict(zip(params.ensembles, map(Path, snakemake.input.ensembles), strict=True)),
    )

# Training: one job for each network and replicate, and the baselines on the same splits.


rule train:
    input:
        dataset="<results>/dataset.zarr/zarr.json",
        splits="<results>/splits.tsv",
        targets="<results>/targets.json",
        files=training_files,
        choice=choice,
        data=CHOSEN_DATA,
    output:
        model="<results>/models/{network}/{replicate}.safetensors",
        history="<results>/models/{network}/{replicate}.history.csv",
    log:
        "<logs>/train/{network}/{replicate}.log",
    benchmark:
        "<benchmarks>/train/{network}/{replicate}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: training_threads()
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=480,
    params:
        num_shards=len(SHARDS),
        options=lambda wildcards: in_any_order(config["networks"][wildcards.network]),
        training=lambda wildcards: {
            key: value
            for key, value in section("training").items()
            if key not in ("replicates", "workers")
        },
        simulation=lambda wildcards: (
            sections(trial_values(wildcards))[SOURCE] if ON_THE_FLY else None
        ),
        evaluation=section("evaluation"),
        transforms=section("transforms"),
        priors=lambda wildcards: told(wildcards)["priors"],
        about=lambda wildcards: told(wildcards)["about"],
        study=config["study"],
        seed=config.get("seed", 42),
        stage=STAGES["training"],
        # Neither is an output: a killed job goes on from its checkpoint.
        checkpoint=f"{RESULTS}/models/{{network}}/.{{replicate}}.checkpoint",
        tensorboard=f"{RESULTS}/tensorboard/{{network}}/{{replicate}}",
    script:
        "../scripts/train.py"


# A trial of a search is a training like any other, with settings of its own.
use rule train as run_trial with:
    input:
        dataset=lambda wildcards: of_trial(wildcards, "dataset.zarr/zarr.json"),
        splits=lambda wildcards: of_trial(wildcards, "splits.tsv"),
        targets=lambda wildcards: of_trial(wildcards, "targets.json"),
        files=training_files,
        choice=[],
        data=[],
    output:
        directory("<results>/search/{network}/{trial}"),
    log:
        "<logs>/run_trial/{network}/{trial}.log",
    benchmark:
        "<benchmarks>/run_trial/{network}/{trial}.tsv"
    params:
        over=lambda wildcards: trial_over(
            SEARCH, wildcards.network, int(wildcards.trial)
        ),
        checkpoint=f"{RESULTS}/search/{{network}}/.{{trial}}.checkpoint",
        tensorboard=f"{RESULTS}/tensorboard/search/{{network}}/{{trial}}",


rule choose_trial:
    input:
        trials=lambda wildcards: trials(wildcards.network),
        data=CHOSEN_DATA,
    output:
        "<results>/search/{network}.json",
    log:
        "<logs>/choose_trial/{network}.log",
    benchmark:
        "<benchmarks>/choose_trial/{network}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        stage=STAGES["training"],
    script:
        "../scripts/choose_trial.py"


rule search_table:
    input:
        expand("<results>/search/{network}.json", network=TRIALS),
    output:
        "<results>/search.tsv",
    log:
        "<logs>/search_table.log",
    benchmark:
        "<benchmarks>/search_table.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        stage=STAGES["training"],
    script:
        "../scripts/write_search_table.py"


rule combine_replicates:
    input:
        models=members,
        dataset="<results>/dataset.zarr/zarr.json",
        splits="<results>/splits.tsv",
    output:
        f"<results>/models/{{network}}/{ENSEMBLE}.json",
    log:
        "<logs>/combine_replicates/{network}.log",
    benchmark:
        "<benchmarks>/combine_replicates/{network}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: section("training").get("threads", 1)
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=60,
    params:
        num_shards=len(SHARDS),
        stage=STAGES["prediction"],
    script:
        "../scripts/combine_replicates.py"


rule predict_test:
    input:
        model=predictor,
        members=members,
        dataset="<results>/dataset.zarr/zarr.json",
        splits="<results>/splits.tsv",
    output:
        "<results>/predictions/{network}/{replicate}.tsv",
    log:
        "<logs>/predict_test/{network}/{replicate}.log",
    benchmark:
        "<benchmarks>/predict_test/{network}/{replicate}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: section("training").get("threads", 1)
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=60,
    params:
        num_shards=len(SHARDS),
        stage=STAGES["prediction"],
    script:
        "../scripts/predict_test.py"


rule fit_baseline:
    input:
        dataset="<results>/dataset.zarr/zarr.json",
        splits="<results>/splits.tsv",
        targets="<results>/targets.json",
        plugin=lambda wildcards: plugin(BASELINES[wildcards.baseline]),
    output:
        "<results>/baselines/{baseline}.tsv",
    log:
        "<logs>/fit_baseline/{baseline}.log",
    benchmark:
        "<benchmarks>/fit_baseline/{baseline}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        **BASELINE_STATISTICS,
        num_shards=len(SHARDS),
        name=lambda wildcards: BASELINES[wildcards.baseline],
        evaluation=section("evaluation"),
        seed=config.get("seed", 42),
        stage=STAGES["baselines"],
    script:
        "../scripts/fit_baseline.py"

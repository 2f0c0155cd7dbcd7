# Training: one job for each network and replicate, and the baselines on the same splits.


rule train:
    input:
        shards=expand("<results>/dataset.zarr/shard_{shard}", shard=SHARDS),
        splits="<results>/splits.tsv",
        targets="<results>/targets.json",
        files=training_files,
    output:
        model="<results>/models/{network}/{replicate}.safetensors",
        history="<results>/models/{network}/{replicate}.history.csv",
    log:
        "<logs>/train/{network}/{replicate}.log",
    benchmark:
        "<benchmarks>/train/{network}/{replicate}.tsv"
    conda:
        "../../envs/gpu.yaml"
    threads: section("training").get("threads", 1)
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=720,
    params:
        options=lambda wildcards: in_any_order(config["networks"][wildcards.network]),
        training=lambda wildcards: {
            key: value
            for key, value in section("training").items()
            if key != "replicates"
        },
        evaluation=section("evaluation"),
        priors=section(SOURCE, "parameters", "mutation_rate", "recombination_rate"),
        study=config["study"],
        seed=config.get("seed", 42),
        stage=STAGES["training"],
        # Neither is an output: a killed job goes on from its checkpoint.
        checkpoint=f"{RESULTS}/models/{{network}}/.{{replicate}}.checkpoint",
        tensorboard=f"{RESULTS}/tensorboard/{{network}}/{{replicate}}",
    script:
        "../scripts/train.py"


rule predict_test:
    input:
        model="<results>/models/{network}/{replicate}.safetensors",
        shards=expand("<results>/dataset.zarr/shard_{shard}", shard=SHARDS),
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
        stage=STAGES["prediction"],
    script:
        "../scripts/predict_test.py"


rule fit_baseline:
    input:
        shards=expand("<results>/dataset.zarr/shard_{shard}", shard=SHARDS),
        splits="<results>/splits.tsv",
        targets="<results>/targets.json",
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
        evaluation=section("evaluation"),
        seed=config.get("seed", 42),
        stage=STAGES["baselines"],
    script:
        "../scripts/fit_baseline.py"

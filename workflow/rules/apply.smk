# Applications: a genome is cut into windows, encoded exactly as the simulations were, and given to every network.


# Those that are set beside a recombination map.
COMPARED = [
    name for name in APPLICATIONS if config["applications"][name].get("compare")
]
COMPARED_METHODS = [*MODELS, *ENSEMBLES, *(f"baselines/{name}" for name in BASELINES)]


rule simulate_genome:
    input:
        files=source_files,
        data=CHOSEN_DATA,
    output:
        "<results>/applications/{application}/genome.vcf.gz",
    log:
        "<logs>/simulate_genome/{application}.log",
    benchmark:
        "<benchmarks>/simulate_genome/{application}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        simulation={
            key: value
            for key, value in SIMULATION.items()
            if key not in ("num_scenarios", "shard_size")
        },
        genome=lambda wildcards: section("applications")[wildcards.application][
            "simulate"
        ],
        seed=config.get("seed", 42),
        stage=STAGES["simulation"],
    script:
        "../scripts/simulate_genome.py"


rule encode_windows:
    input:
        vcf=genome,
        samples=sample_lists,
        plugins=statistics_plugins(),
        data=CHOSEN_DATA,
    output:
        directory("<results>/applications/{application}/windows.zarr"),
    log:
        "<logs>/encode_windows/{application}.log",
    benchmark:
        "<benchmarks>/encode_windows/{application}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        application=lambda wildcards: {
            key: value
            for key, value in section("applications")[wildcards.application].items()
            if key != "compare"
        },
        encoding=section("encoding"),
        statistics=STATISTICS,
        source=SOURCE,
        simulation={
            key: value
            for key, value in SIMULATION.items()
            if key not in ("num_scenarios", "shard_size")
        },
        seed=config.get("seed", 42),
        stage=(STAGES["encoding"], STAGES["windows"]),
    script:
        "../scripts/encode_windows.py"


rule predict_windows:
    input:
        model=predictor,
        members=members,
        windows="<results>/applications/{application}/windows.zarr",
    output:
        tsv="<results>/applications/{application}/{network}/{replicate}.windows.tsv",
        bed="<results>/applications/{application}/{network}/{replicate}.windows.bed",
    log:
        "<logs>/predict_windows/{application}/{network}/{replicate}.log",
    benchmark:
        "<benchmarks>/predict_windows/{application}/{network}/{replicate}.tsv"
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
        "../scripts/predict_windows.py"


rule compare_windows:
    input:
        model="<results>/model.safetensors",
        windows="<results>/applications/{application}/windows.zarr",
    output:
        "<results>/applications/{application}/realism.tsv",
    log:
        "<logs>/compare_windows/{application}.log",
    benchmark:
        "<benchmarks>/compare_windows/{application}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        stage=STAGES["evaluation"],
    script:
        "../scripts/compare_windows.py"


rule apply_baseline:
    input:
        dataset="<results>/dataset.zarr/zarr.json",
        splits="<results>/splits.tsv",
        targets="<results>/targets.json",
        plugin=lambda wildcards: plugin(BASELINES[wildcards.baseline]),
        windows="<results>/applications/{application}/windows.zarr",
    output:
        "<results>/applications/{application}/baselines/{baseline}.windows.tsv",
    log:
        "<logs>/apply_baseline/{application}/{baseline}.log",
    benchmark:
        "<benchmarks>/apply_baseline/{application}/{baseline}.tsv"
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
        "../scripts/apply_baseline.py"


rule compare_with_map:
    input:
        map=lambda wildcards: config["applications"][wildcards.application]["compare"][
            "map"
        ],
        predictions=expand(
            "<results>/applications/{{application}}/{method}.windows.tsv",
            method=COMPARED_METHODS,
        ),
    output:
        bins="<results>/applications/{application}/comparison.tsv",
        correlations="<results>/applications/{application}/correlations.tsv",
    log:
        "<logs>/compare_with_map/{application}.log",
    benchmark:
        "<benchmarks>/compare_with_map/{application}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        methods=[*MODELS, *ENSEMBLES, *BASELINES.values()],
        comparison=lambda wildcards: section("applications")[wildcards.application][
            "compare"
        ],
        window=lambda wildcards: section("applications")[wildcards.application][
            "windows"
        ]["size"],
        stage=STAGES["evaluation"],
    script:
        "../scripts/compare_with_map.py"

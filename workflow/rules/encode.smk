# Raw genotypes become what networks read; the split is a table, nothing is copied.


rule index_simulations:
    input:
        expand("<results>/simulations.zarr/shard_{shard}", shard=SHARDS),
    output:
        "<results>/simulations.zarr/zarr.json",
    log:
        "<logs>/index_simulations.log",
    benchmark:
        "<benchmarks>/index_simulations.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        kind="simulations",
    script:
        "../scripts/write_index.py"


rule encode_shard:
    input:
        simulations="<results>/simulations.zarr/shard_{shard}",
        plugins=statistics_plugins(),
    output:
        directory("<results>/dataset.zarr/shard_{shard}"),
    log:
        "<logs>/encode/{shard}.log",
    benchmark:
        "<benchmarks>/encode/{shard}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        encoding=section("encoding"),
        statistics=STATISTICS,
        seed=config.get("seed", 42),
        stage=STAGES["encoding"],
    script:
        "../scripts/encode_shard.py"


rule index_dataset:
    input:
        expand("<results>/dataset.zarr/shard_{shard}", shard=SHARDS),
    output:
        "<results>/dataset.zarr/zarr.json",
    log:
        "<logs>/index_dataset.log",
    benchmark:
        "<benchmarks>/index_dataset.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        kind="dataset",
    script:
        "../scripts/write_index.py"


rule split:
    input:
        dataset="<results>/dataset.zarr/zarr.json",
        table=[config["splits"]["file"]] if section("splits", "file") else [],
    output:
        splits="<results>/splits.tsv",
        targets="<results>/targets.json",
    log:
        "<logs>/split.log",
    benchmark:
        "<benchmarks>/split.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        num_shards=len(SHARDS),
        splits=section("splits"),
        targets={
            name: in_any_order(target) for name, target in config["targets"].items()
        },
        seed=config.get("seed", 42),
        stage=STAGES["splits"],
    script:
        "../scripts/make_splits.py"

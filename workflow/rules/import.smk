# Import: the user's own labelled data fills the shards that simulation would. All of it is looked at once, then cut into jobs.


rule survey_import:
    input:
        import_files(),
    output:
        "<results>/import.json",
    log:
        "<logs>/survey_import.log",
    benchmark:
        "<benchmarks>/survey_import.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        values=SIMULATION,
        stage=STAGES["import"],
    script:
        "../scripts/survey_import.py"


rule import_shard:
    input:
        "<results>/import.json",
    output:
        directory("<results>/simulations.zarr/shard_{shard}"),
    log:
        "<logs>/import/{shard}.log",
    benchmark:
        "<benchmarks>/import/{shard}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        values=SIMULATION,
        seed=config.get("seed", 42),
        stage=STAGES["import"],
    script:
        "../scripts/import_shard.py"

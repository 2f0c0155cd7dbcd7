# A search over data: each variant has simulations and a dataset of its own, trials learn from them, and those of the best trial become the study's.


if SOURCE == "import":

    ruleorder: adopt_shard > import_shard
    ruleorder: adopt_files > survey_import

    use rule survey_import as survey_variant with:
        input:
            lambda wildcards: import_files(SOURCE_VARIANTS[int(wildcards.source)]),
        output:
            "<results>/variants/simulations/{source}/import.json",
        log:
            "<logs>/survey_variant/{source}.log",
        benchmark:
            "<benchmarks>/survey_variant/{source}.tsv"
        params:
            values=lambda wildcards: sections(SOURCE_VARIANTS[int(wildcards.source)])[
                SOURCE
            ],

    use rule import_shard as import_variant with:
        input:
            "<results>/variants/simulations/{source}/import.json",
        output:
            directory(
                "<results>/variants/simulations/{source}/simulations.zarr/shard_{shard}"
            ),
        log:
            "<logs>/import_variant/{source}/{shard}.log",
        benchmark:
            "<benchmarks>/import_variant/{source}/{shard}.tsv"
        params:
            values=lambda wildcards: sections(SOURCE_VARIANTS[int(wildcards.source)])[
                SOURCE
            ],

else:

    ruleorder: adopt_shard > simulate_shard

    use rule simulate_shard as simulate_variant with:
        input:
            lambda wildcards: simulation_files(SOURCE_VARIANTS[int(wildcards.source)]),
        output:
            directory(
                "<results>/variants/simulations/{source}/simulations.zarr/shard_{shard}"
            ),
        log:
            "<logs>/simulate_variant/{source}/{shard}.log",
        benchmark:
            "<benchmarks>/simulate_variant/{source}/{shard}.tsv"
        params:
            simulation=lambda wildcards: simulated(
                SOURCE_VARIANTS[int(wildcards.source)]
            ),


ruleorder: adopt_shard > encode_shard
ruleorder: adopt_files > split


# Variants that differ by their encoding alone share the study's own simulations.
use rule encode_shard as encode_variant with:
    input:
        simulations=variant_simulations,
        plugins=statistics_plugins(),
    output:
        directory("<results>/variants/{variant}/dataset.zarr/shard_{shard}"),
    log:
        "<logs>/encode_variant/{variant}/{shard}.log",
    benchmark:
        "<benchmarks>/encode_variant/{variant}/{shard}.tsv"
    params:
        encoding=lambda wildcards: sections(VARIANTS[int(wildcards.variant)])[
            "encoding"
        ],


use rule index_dataset as index_variant with:
    input:
        lambda wildcards: expand(
            "<results>/variants/{variant}/dataset.zarr/shard_{shard}",
            variant=wildcards.variant,
            shard=SHARDS,
        ),
    output:
        "<results>/variants/{variant}/dataset.zarr/zarr.json",
    log:
        "<logs>/index_variant/{variant}.log",
    benchmark:
        "<benchmarks>/index_variant/{variant}.tsv"


use rule split as split_variant with:
    input:
        dataset="<results>/variants/{variant}/dataset.zarr/zarr.json",
        table=[config["splits"]["file"]] if section("splits", "file") else [],
    output:
        splits="<results>/variants/{variant}/splits.tsv",
        targets="<results>/variants/{variant}/targets.json",
    log:
        "<logs>/split_variant/{variant}.log",
    benchmark:
        "<benchmarks>/split_variant/{variant}.tsv"


rule choose_data:
    input:
        [trial for network in TRIALS for trial in trials(network)],
    output:
        "<results>/variants/chosen.json",
    log:
        "<logs>/choose_data.log",
    benchmark:
        "<benchmarks>/choose_data.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        variants=VARIANTS,
        sections=sections({}),
        stage=STAGES["training"],
    script:
        "../scripts/choose_data.py"


rule adopt_shard:
    input:
        "<results>/variants/chosen.json",
    output:
        directory("<results>/{kind}.zarr/shard_{shard}"),
    log:
        "<logs>/adopt/{kind}/{shard}.log",
    benchmark:
        "<benchmarks>/adopt/{kind}/{shard}.tsv"
    wildcard_constraints:
        kind="dataset|simulations" if SOURCE_VARIANTS else "dataset",
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    script:
        "../scripts/adopt_shard.py"


rule adopt_files:
    input:
        "<results>/variants/chosen.json",
    output:
        "<results>/splits.tsv",
        "<results>/targets.json",
        ["<results>/import.json"] if SOURCE == "import" and SOURCE_VARIANTS else [],
    log:
        "<logs>/adopt/files.log",
    benchmark:
        "<benchmarks>/adopt/files.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    script:
        "../scripts/adopt_files.py"

# Evaluation: the test split is scored once, networks and baselines in one table; the best network becomes the file to share.


rule evaluate:
    input:
        models=expand("<results>/models/{model}.safetensors", model=MODELS),
        networks=expand("<results>/predictions/{model}.tsv", model=MODELS),
        ensembles=expand("<results>/predictions/{ensemble}.tsv", ensemble=ENSEMBLES),
        baselines=expand("<results>/baselines/{baseline}.tsv", baseline=BASELINES),
        targets="<results>/targets.json",
    output:
        metrics="<results>/metrics.json",
        table=report(
            "<results>/metrics.tsv",
            caption="../report/metrics.rst",
            category="Evaluation",
        ),
    log:
        "<logs>/evaluate.log",
    benchmark:
        "<benchmarks>/evaluate.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        models=MODELS,
        ensembles=ENSEMBLES,
        baselines=list(BASELINES.values()),
        evaluation=section("evaluation"),
        replicates=NUM_REPLICATES,
        seed=config.get("seed", 42),
        stage=STAGES["evaluation"],
    script:
        "../scripts/evaluate.py"


rule publish_model:
    input:
        models=expand("<results>/models/{model}.safetensors", model=MODELS),
        metrics="<results>/metrics.json",
    output:
        "<results>/model.safetensors",
    log:
        "<logs>/publish_model.log",
    benchmark:
        "<benchmarks>/publish_model.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        models=MODELS,
        stage=STAGES["evaluation"],
    script:
        "../scripts/publish_model.py"

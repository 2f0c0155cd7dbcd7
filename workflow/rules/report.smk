# The report: figures with the numbers behind them, and one HTML page that opens anywhere.


rule write_config:
    output:
        "<results>/config.yaml",
    log:
        "<logs>/write_config.log",
    benchmark:
        "<benchmarks>/write_config.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        config=config,
    script:
        "../scripts/write_config.py"


rule draw_figures:
    input:
        config="<results>/config.yaml",
        metrics="<results>/metrics.json",
        search=SEARCH_TABLE,
        data=CHOSEN_DATA,
        histories=expand("<results>/models/{model}.history.csv", model=MODELS),
        windows=expand(
            "<results>/applications/{application}/{model}.windows.tsv",
            application=APPLICATIONS,
            model=[*MODELS, *ENSEMBLES],
        ),
        realism=expand(
            "<results>/applications/{application}/realism.tsv",
            application=APPLICATIONS,
        ),
        comparisons=expand(
            "<results>/applications/{application}/{table}.tsv",
            application=COMPARED,
            table=["comparison", "correlations"],
        ),
    output:
        report(
            directory("<results>/figures"),
            patterns=["{figure}.png"],
            caption="../report/figures.rst",
            category="Figures",
        ),
    log:
        "<logs>/draw_figures.log",
    benchmark:
        "<benchmarks>/draw_figures.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        stage=STAGES["report"],
    script:
        "../scripts/draw_figures.py"


rule report:
    input:
        config="<results>/config.yaml",
        figures="<results>/figures",
        metrics="<results>/metrics.json",
        model="<results>/model.safetensors",
        simulations="<results>/simulations.zarr/zarr.json",
        dataset="<results>/dataset.zarr/zarr.json",
        windows=expand(
            "<results>/applications/{application}/windows.zarr",
            application=APPLICATIONS,
        ),
    output:
        report(
            "<results>/report.html", caption="../report/report.rst", category="Report"
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    params:
        stage=STAGES["report"],
    script:
        "../scripts/write_report.py"

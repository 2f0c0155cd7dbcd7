# What the study will cost, before any of it is run: snakemake --cores 1 plan


rule plan:
    input:
        simulation_files(),
        config="<results>/config.yaml",
    output:
        text="<results>/plan.txt",
        values="<results>/plan.json",
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    script:
        "../scripts/plan.py"

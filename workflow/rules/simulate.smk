# Simulation: one shard, one job. A shard depends on nothing that changes when scenarios are added.


rule simulate_shard:
    input:
        simulation_files(),
    output:
        directory("<results>/simulations.zarr/shard_{shard}"),
    log:
        "<logs>/simulate/{shard}.log",
    benchmark:
        "<benchmarks>/simulate/{shard}.tsv"
    conda:
        "../../envs/popdl.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        simulation=simulated(),
        num_scenarios=shard_scenarios,
        seed=config.get("seed", 42),
        stage=STAGES["simulation"],
    script:
        "../scripts/simulate_shard.py"

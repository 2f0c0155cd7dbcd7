"""What it costs to plan a study of many shards, as a JSON line: a dry run of Snakemake on an empty results folder.

    python benchmarks/dry_run.py [--shards 10000] [--write docs/performance.md]

The study is config/test.yaml with one scenario to a shard. Beside it stands what Snakemake takes for as many jobs of rules that
say nothing but their files and a command: what no pipeline with two jobs a shard can do without. CPU seconds are those of
Snakemake and of what it starts (the check of the config), on one core; the time on the clock is longer where others share the core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from scale import write

ROOT = Path(__file__).resolve().parents[1]
FEW = 20
"""Shards of the run beside it, which shows what does not depend on their number."""
BARE = """
rule all:
    input: expand("encoded/{{shard}}", shard=range({num_shards}))
rule simulate:
    output: "simulated/{{shard}}"
    shell: "touch {{output}}"
rule encode:
    input: "simulated/{{shard}}"
    output: "encoded/{{shard}}"
    shell: "cp {{input}} {{output}}"
"""
"""The least that a pipeline with two jobs a shard can be."""


def dry_run(num_shards: int, *, bare: bool) -> dict[str, float]:
    """Plan a study with so many shards, or as many jobs of rules that say nothing but their files."""
    values = yaml.safe_load((ROOT / "config/test.yaml").read_text(encoding="utf-8"))
    values["simulation"] |= {"num_scenarios": num_shards, "replicates": 1, "shard_size": 1}
    with tempfile.TemporaryDirectory() as folder:
        config, snakefile = Path(folder) / "config.yaml", Path(folder) / "bare.smk"
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        snakefile.write_text(BARE.format(num_shards=num_shards), encoding="utf-8")
        command = [*(sys.executable, "-m", "snakemake", "--directory", folder, "--snakefile")]
        command += [str(snakefile)] if bare else [str(ROOT / "Snakefile"), "--configfile", str(config)]
        command += ["--cores", "1", "--dry-run", "--quiet", "rules"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = re.findall(r"^total\s+(\d+)$", run.stdout + run.stderr, flags=re.MULTILINE)
    return {
        "jobs": int(jobs[0]),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "seconds": round(seconds, 1),
        "peak_mb": round(after.ru_maxrss / 1024),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    rows = [
        "| rules | shards | jobs | CPU time | time on the clock | memory | processes that ran (load) |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        rows.append(
            f"| {line['rules']} | {line['shards']:,} | {line['jobs']:,} | {line['cpu_seconds']:.0f} s | {line['seconds']:.0f} s | {line['peak_mb']:,} MB | {line['load']} |"
        )
    rows.append(f"\n{platform.system()}, {os.cpu_count()} cores, {datetime.now(UTC):%d %B %Y}.")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--write", type=Path, help="Markdown file that holds the table")
    options = parser.parse_args()
    lines = []
    for num_shards, bare in ((FEW, False), (options.shards, False), (options.shards, True)):
        line = {
            "benchmark": "dry_run",
            "rules": "bare" if bare else "popdl",
            "shards": num_shards,
            **dry_run(num_shards, bare=bare),
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(line), flush=True)
        lines.append(line)
    if options.write:
        write(options.write, "dry_run", table(lines))


if __name__ == "__main__":
    main()

"""What it costs to plan a study of many shards, as a JSON line: a dry run of Snakemake on an empty results folder.

    python benchmarks/dry_run.py [--shards 10000] [--write docs/performance.md]

The study is config/test.yaml with one scenario to a shard. CPU seconds are those of Snakemake and of what it starts (the check of
the config), on one core; the time on the clock is longer where others share the core.
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


def dry_run(num_shards: int) -> dict[str, float]:
    """Plan a study with so many shards."""
    values = yaml.safe_load((ROOT / "config/test.yaml").read_text(encoding="utf-8"))
    values["simulation"] |= {"num_scenarios": num_shards, "replicates": 1, "shard_size": 1}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        command = [*(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", folder)]
        command += ["--configfile", str(config), "--cores", "1", "--dry-run", "--quiet", "rules"]
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
        "| shards | jobs | CPU time | time on the clock | memory | processes that ran (load) |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        rows.append(
            f"| {line['shards']:,} | {line['jobs']:,} | {line['cpu_seconds']:.0f} s | {line['seconds']:.0f} s | {line['peak_mb']:,} MB | {line['load']} |"
        )
    rows.append(f"\n{platform.system()}, {os.cpu_count()} cores, {datetime.now(UTC):%d %B %Y}.")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--write", type=Path, help="Markdown file that holds the table")
    options = parser.parse_args()
    lines = []
    for num_shards in (FEW, options.shards):
        line = {
            "benchmark": "dry_run",
            "shards": num_shards,
            **dry_run(num_shards),
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(line), flush=True)
        lines.append(line)
    if options.write:
        write(options.write, "dry_run", table(lines))


if __name__ == "__main__":
    main()

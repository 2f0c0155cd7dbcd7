"""The whole of a study through Snakemake against its steps in one process: what the workflow costs, as a JSON line.

Run ``python benchmarks/demo.py [CONFIG]`` (default: the demo; about fifteen minutes on 2 cores). Both sides do the same work: the
ratio is what processes, imports and bookkeeping add.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

IN_ONE_PROCESS = """
import sys
from pathlib import Path
from popdl import steps
from popdl.config.study import load_study
from popdl.layout import Results

study = load_study(sys.argv[1])
results = Results(Path("results") / study.study)
for step in (steps.simulate, steps.encode, steps.split, steps.train, steps.evaluate, steps.apply, steps.report):
    step(study, results)
"""


def run(command: list[str], folder: Path) -> dict[str, float]:
    """CPU seconds of a command and all that it starts, and how long it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu, "seconds": time.perf_counter() - start}


def main() -> None:
    config = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "config/config.yaml").resolve()
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        bare = run([sys.executable, "-c", IN_ONE_PROCESS, str(config)], Path(first))
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "all"]
        profile = ["--profile", str(ROOT / "profiles/default")]
        whole = run([*snakemake, *profile, "--configfile", str(config), "--directory", second], ROOT)
    print(
        json.dumps(
            {
                "benchmark": "demo",
                "config": config.name,
                "cores": os.cpu_count(),
                "workflow": whole,
                "one_process": bare,
                "overhead": whole["cpu_seconds"] / bare["cpu_seconds"] - 1,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()

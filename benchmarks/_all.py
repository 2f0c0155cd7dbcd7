"""Every benchmark one after the other, and at the end a table beside dnadna: what `make benchmark` runs.

    python benchmarks/_all.py [BENCHMARK ...]

Lines of JSON are passed on as they come. The figures of dnadna 1.0.0rc1 were measured per CPU-second on one core of the
kind of machine that popdl is developed on: they are quoted, not measured here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent

TABLE: list[tuple[str, float | None, str, str, dict[str, str]]] = [
    ("simulate and write one_event, Hudson", 6.5, "0.95 of a bare loop", "examples_per_cpu_second", {"setting": "one_event"}),
    ("simulate and write one_event, SMC(k)", None, "0.95 of a bare loop", "examples_per_cpu_second", {"setting": "one_event_smck"}),
    ("load examples of 50 x 400", 286, "50,000", "examples_per_cpu_second", {"benchmark": "load"}),
    ("train SPIDNA(7 blocks, 50 features)", 5.6, "15", "training_examples_per_cpu_second", {"network": "spidna"}),
    ("predict with it", 24.8, "50", "prediction_examples_per_cpu_second", {"network": "spidna"}),
]  # fmt: skip
"""What is counted, what dnadna reaches (None: it cannot), what popdl aims at, and popdl's own figure: its name, and what else its
line says."""


NO_SPEED = ("scale", "soak", "theta_limit")
"""Scripts of this folder that measure something else."""


def speeds() -> list[Path]:
    """The benchmarks that run where none is named."""
    return [path for path in sorted(FOLDER.glob("[!_]*.py")) if path.stem not in NO_SPEED]


def table(lines: list[dict[str, Any]]) -> str:
    """The comparison as text; a row that was not measured says so."""
    rows = [("examples per CPU-second, one core", "dnadna 1.0.0rc1", "popdl", "times", "aim, at least")]
    for name, theirs, aim, key, where in TABLE:
        line = next((line for line in lines if where.items() <= line.items()), {})
        if "ratio" in line:
            aim = f"{aim}: {line['ratio']:.2f}"
        ours = f"{line[key]:,.1f}" if line else "not measured"
        times = f"{line[key] / theirs:,.1f}" if line and theirs else ""
        rows.append((name, f"{theirs:g}" if theirs else "-", ours, times, aim))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        f"{name:{widths[0]}}  {theirs:>{widths[1]}}  {ours:>{widths[2]}}  {times:>{widths[3]}}  {aim}"
        for name, theirs, ours, times, aim in rows
    )


def main() -> None:
    lines: list[dict[str, Any]] = []
    for path in [FOLDER / f"{name}.py" for name in sys.argv[1:]] or speeds():
        with subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for text in process.stdout:
                print(text, end="", flush=True)
                lines.append(json.loads(text))
        if process.returncode:
            sys.exit(process.returncode)
    print("\n" + table(lines))
    for line in lines:
        if line["benchmark"] == "training":
            speed, waiting = line["examples_per_second"], 100 * line["waiting_share"]
            print(
                f"\nTraining {line['network']} on {line['device']}: {speed:,.0f} examples/s, {waiting:.2g} % of the time waiting for data (aim: at most 2 %)."
            )
    print("\ndnadna 1.0.0rc1, measured per CPU-second on one core of such a machine: quoted.")
    print("It crops each example whenever it is loaded, popdl once, when encoding (the line `encode`).")


if __name__ == "__main__":
    main()

"""What popdl does when machines, disks and people fail it: each section breaks something many times, and says what came of it.

Run ``python benchmarks/soak.py [SECTION ...] [--minutes 30] [--kills 50] [--flips 500]``. Prints one JSON object per line, and
with ``--write`` rewrites the table of ``docs/reliability.md``. Ends with code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from popdl.errors import PopdlError
from popdl.verifying import verify

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reliability.md"
MARK = "<!-- written by benchmarks/soak.py --write -->\n"
CONFIG = ROOT / "config/test.yaml"
DIFFERS = ("benchmarks", "logs", "figures", "report.html", ".snakemake_timestamp", ".history.csv", "tensorboard")
"""Names, or ends of them, of results that tell times: they differ from run to run."""


class Outcome(NamedTuple):
    """What came of one section."""

    fault: str
    promise: str
    tries: int
    kept: int
    """Tries after which the promise was kept."""
    note: str = ""


class Options(NamedTuple):
    seconds: float
    kills: int
    flips: int


def command(folder: Path, *options: str) -> list[str]:
    """The test study in a folder of its own."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--profile", str(ROOT / "profiles/default"), "--configfile", str(CONFIG), "--cores", "2", *options),
    ]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *options), capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every result of a study that does not tell a time."""
    results = folder / "results/test"
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and not any(part.endswith(DIFFERS) for part in path.relative_to(results).parts)
    }


def undisturbed(folder: Path) -> dict[str, str]:
    """The results of the study, run once in a folder and kept there."""
    if not (folder / "results/test/report.html").exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = run(folder)
        if done.returncode:
            sys.exit(f"The study does not run even when left in peace:\n{said(done)[-3000:]}")
    return digests(folder)


def kill(folder: Path, options: Options) -> Iterator[Outcome]:
    """SIGKILL of everything at random moments, over and over, in studies that are each brought to their end."""
    expected = undisturbed(folder / "undisturbed")
    chance = random.Random(1)
    kills = ended = same = 0
    start = time.monotonic()
    while kills < options.kills and time.monotonic() - start < options.seconds:
        study = folder / f"killed_{ended}"
        study.mkdir()
        while not (study / "results/test/report.html").exists():
            process = subprocess.Popen(
                command(study, "--nolock", "--rerun-incomplete"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            patience = chance.uniform(4, 40) if kills < options.kills else None
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        if run(study).returncode == 0 and digests(study) == expected:
            same += 1
        ended += 1
        shutil.rmtree(study)
    yield Outcome(
        "SIGKILL at random moments",
        "the results are byte-identical to an undisturbed run",
        ended,
        same,
        f"{kills} kills",
    )


def flip(folder: Path, options: Options) -> Iterator[Outcome]:
    """Single bytes of shards, indices of stores and models."""
    undisturbed(folder / "undisturbed")
    results = folder / "undisturbed/results/test"
    chance = random.Random(2)
    shards = [path.parent for path in results.rglob("manifest.json")]
    files = [*results.rglob("zarr.json"), *results.rglob("*.safetensors"), *results.rglob("manifest.json")]
    files += [path for shard in shards for path in shard.rglob("*") if path.is_file() and path.parent.name != "shard_0"]
    files = sorted({path for path in files if path.name != ".snakemake_timestamp"})
    found = 0
    for _ in range(options.flips):
        path = chance.choice(files)
        content = path.read_bytes()
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        try:
            verify(next((part for part in path.parents if part.suffix == ".zarr"), path))
        except PopdlError:
            found += 1
        finally:
            path.write_bytes(content)
    note = f"{len(files)} files"
    yield Outcome(
        "a flipped byte of a shard, a store's index or a model", "`popdl verify` names it", options.flips, found, note
    )


def refused(
    fault: str, done: subprocess.CompletedProcess[str], *words: str, whole: bool = True, note: str = ""
) -> Outcome:
    """A run that must fail, saying certain words and no traceback of popdl's own."""
    kept = (
        bool(done.returncode) and all(word in said(done) for word in words) and "Traceback" not in said(done) and whole
    )
    return Outcome(fault, f"refused, saying “{words[0]}”", 1, int(kept), note)


def full_disk(folder: Path, options: Options) -> Iterator[Outcome]:
    """A file system of 64 KiB; without the right to mount one, files that may not grow beyond 8 KiB."""
    disk = folder / "disk"
    disk.mkdir()
    step = [
        sys.executable,
        "-m",
        "popdl.cli",
        "simulate",
        str(CONFIG),
        "--shard",
        "0",
        "--results",
        str(disk / "results"),
    ]
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    try:
        if mounted.returncode == 0:
            words, note, limited = "No space left on device", "tmpfs of 64 KiB", step
        else:
            words, note = "File too large", "files of 8 KiB at most: no right to mount a tmpfs"
            limited = ["bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "-", *step]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        left = [path for path in (disk / "results").rglob("*") if "shard" in path.name]
        yield refused("disk full", done, words, whole=not left, note=f"{note}; nothing half-written stays")
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(disk)], check=True)


def read_only(folder: Path, options: Options) -> Iterator[Outcome]:
    """Results that cannot be written; root can write anywhere but to a file system that is mounted so."""
    locked = folder / "locked"
    locked.mkdir()
    if mounted := os.geteuid() == 0:
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(locked)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            yield Outcome("read-only results", "refused", 0, 0, "skipped: root, without the right to mount")
            return
    else:
        locked.chmod(0o500)
    try:
        step = [sys.executable, "-m", "popdl.cli", "simulate", str(CONFIG), "--results", str(locked / "results")]
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        yield refused("read-only results", done, "Read-only file system" if mounted else "Permission denied")
    finally:
        if mounted:
            subprocess.run(["umount", str(locked)], check=True)


def vanished(folder: Path, options: Options) -> Iterator[Outcome]:
    """A shard, taken away between two steps."""
    study = folder / "vanished"
    undisturbed(folder / "undisturbed")
    shutil.copytree(folder / "undisturbed", study)
    shutil.rmtree(study / "results/test/simulations.zarr/shard_1/genotypes")
    step = [sys.executable, "-m", "popdl.cli", "encode", str(CONFIG), "--results", str(study / "results")]
    shutil.rmtree(study / "results/test/dataset.zarr")
    done = subprocess.run(step, capture_output=True, text=True, check=False)
    yield refused("a vanished input", done, "is missing", "shard_1")


def clock(folder: Path, options: Options) -> Iterator[Outcome]:
    """All files a year in the future, then one job's output a year in the past: what runs again gives the same bytes."""
    expected = undisturbed(folder / "undisturbed")
    study = folder / "clock"
    shutil.copytree(folder / "undisturbed", study, symlinks=True)
    year = 365 * 86400
    for shift, chosen in ((year, "*"), (-year, "targets.json")):
        for path in study.rglob(chosen):
            if path.is_file():
                os.utime(path, (time.time() + shift,) * 2)
    done = run(study)
    kept = done.returncode == 0 and digests(study) == expected
    yield Outcome("a clock that jumps a year forwards and back", "the results are the same", 1, int(kept))


def two_runs(folder: Path, options: Options) -> Iterator[Outcome]:
    """The same study started twice in one folder."""
    study = folder / "twice"
    study.mkdir()
    first = subprocess.Popen(
        command(study), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(study.glob(".snakemake/locks/*")) and first.poll() is None:
        time.sleep(0.2)
    done = run(study)
    outcome = refused("a second run in the same folder", done, "cannot be locked", "--unlock")
    kept = first.wait() == 0 and digests(study) == undisturbed(folder / "undisturbed")
    yield outcome._replace(kept=int(outcome.kept and kept), note="the first run ends as if alone")


SECTIONS: dict[str, Callable[[Path, Options], Iterator[Outcome]]] = {
    "full_disk": full_disk,
    "read_only": read_only,
    "flip": flip,
    "vanished": vanished,
    "clock": clock,
    "two_runs": two_runs,
    "kill": kill,
}


def table(lines: list[dict[str, Any]]) -> str:
    rows = ["| fault | promise | tries | kept | |", "|---|---|---:|---:|---|"]
    rows += [
        f"| {line['fault']} | {line['promise']} | {line['tries']} | {line['kept']} | {line['note']} |" for line in lines
    ]
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--minutes", type=float, default=30, help="time after which no more studies are killed")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    lines = []
    with tempfile.TemporaryDirectory(prefix="popdl-soak-") as folder:
        for name in options.sections or SECTIONS:
            start = time.monotonic()
            for outcome in SECTIONS[name](Path(folder), Options(60 * options.minutes, options.kills, options.flips)):
                seconds = round(time.monotonic() - start, 1)
                lines.append({"benchmark": "soak", "section": name, **outcome._asdict(), "seconds": seconds})
                print(json.dumps(lines[-1], ensure_ascii=False), flush=True)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text[: text.index(MARK) + len(MARK)] + "\n" + table(lines), encoding="utf-8")
    if any(line["kept"] < line["tries"] for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()

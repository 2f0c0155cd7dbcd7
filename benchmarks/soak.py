"""What popdl does when machines, disks and people fail it: each section breaks something many times, and says what came of it.

Run ``python benchmarks/soak.py [SECTION ...] [--minutes 30] [--kills 50] [--flips 500]``. Prints one JSON object per line;
``--write`` runs every section and rewrites the table of ``docs/reliability.md``. Ends with code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from _disk import STEPS, disk, fill, spoiled
from _study import ROOT, call, command, copied, differences, digests, popdl, said, undisturbed

from popdl.errors import PopdlError
from popdl.verifying import verify

PAGE = ROOT / "docs/reliability.md"
MARK = "<!-- written by benchmarks/soak.py --write -->\n"
PHASES = {
    "simulation": ("simulate_shard", "index_simulations", "simulate_genome"),
    "encoding": ("encode_shard", "index_dataset", "split", "encode_windows"),
    "training": ("train",),
    "baselines": ("fit_baseline",),
    "prediction": ("predict_test", "predict_windows", "compare_windows"),
    "evaluation": ("evaluate", "publish_model"),
    "report": ("write_config", "draw_figures", "report"),
}
"""Rules of the test study by what a reader calls them."""
START = "no job"
"""What goes on while Snakemake starts, or between two jobs."""
PATIENCE = 15.0
"""Seconds after which a run is killed at most, from its first job on."""


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


def under_way(text: str) -> list[str]:
    """Phases of the jobs that have started and not ended, in what a run of Snakemake has said."""
    started = Counter(re.findall(r"^(?:local)?rule (\w+):$", text, flags=re.MULTILINE))
    ended = Counter(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", text, flags=re.MULTILINE))
    phases = {rule: phase for phase, rules in PHASES.items() for rule in rules}
    return sorted({phases.get(rule, START) for rule in started - ended}) or [START]


def killed(study: Path, *, first: str, seconds: float | None) -> tuple[int | None, str]:
    """Run a study, and kill all of it some time after it has said ``first``; its exit code, None if killed, and what it said."""
    path = study / "said.txt"
    with open(path, "w") as log:
        process = subprocess.Popen(command(study), stdout=log, stderr=log, start_new_session=True)
    while first not in path.read_text() and process.poll() is None:
        time.sleep(0.05)
    try:
        return process.wait(seconds), path.read_text()
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None, path.read_text()


def kill(folder: Path, options: Options) -> Iterator[Outcome]:
    """SIGKILL of everything at random moments, over and over, in studies that are each brought to their end."""
    expected = undisturbed(folder)
    chance = random.Random(1)
    hit: Counter[str] = Counter()
    kills = kept = studies = 0
    problems = []
    end = time.monotonic() + options.seconds
    while kills < options.kills and time.monotonic() < end:
        study = folder / f"killed_{studies}"
        study.mkdir()
        studies, before, code = studies + 1, kills, None
        while code is None:
            more = kills < options.kills and time.monotonic() < end
            # One in ten while Snakemake still starts, the others from its first job on.
            first = "" if chance.random() < 0.1 else "jobid: "
            code, text = killed(study, first=first, seconds=chance.uniform(0, PATIENCE) if more else None)
            if code is None:
                kills += 1
                hit.update(under_way(text))
                code = call(*command(study, "--unlock")).returncode or None
        problem = f"ended with code {code}" if code else differences(digests(study), expected)
        kept += 0 if problem else kills - before
        problems += [problem] * bool(problem)
        shutil.rmtree(study)
    where = ", ".join(f"{phase} {hit[phase]}" for phase in (START, *PHASES))
    note = f"{studies} studies; under way were: {where}"
    promise = "after `--unlock` and the same command, the results are byte-identical to an undisturbed run"
    yield Outcome(
        "SIGKILL of the whole process group at a random moment", promise, kills, kept, "; ".join([note, *problems])
    )


def preempted(folder: Path, options: Options) -> Iterator[Outcome]:
    """SIGTERM in the middle of a training, as clusters send it before they take a node away."""
    expected = undisturbed(folder)
    study = copied(folder, "preempted")
    kept = 0
    for network in ("exchangeable", "cnn"):
        models = study / "results/test/models" / network
        shutil.rmtree(models)
        step = [*popdl("train", study), "--network", f"{network}/0"]
        process = subprocess.Popen(step, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (models / ".0.checkpoint/last.safetensors").exists() and process.poll() is None:
            time.sleep(0.005)
        process.terminate()
        left = process.wait() == 128 + signal.SIGTERM and not list(models.glob("*.safetensors"))
        kept += left and call(*step).returncode == 0 and digests(study) == expected
    promise = "code 143, nothing half-written; run again, it goes on to the same bytes"
    yield Outcome("SIGTERM while a network is trained", promise, 2, kept)


def flip(folder: Path, options: Options) -> Iterator[Outcome]:
    """Single bytes of shards, indices of stores and models."""
    undisturbed(folder)
    results = folder / "undisturbed/results/test"
    verify(results)
    chance = random.Random(2)
    files = [path for store in results.rglob("*.zarr") for path in store.rglob("*") if path.is_file()]
    files = sorted({*files, *results.rglob("*.safetensors")} - set(results.rglob(".snakemake_timestamp")))
    found = 0
    for _ in range(options.flips):
        path = chance.choice(files)
        content = path.read_bytes()
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        store = next((part for part in path.parents if part.suffix == ".zarr"), path)
        shard = next((part for part in path.parents if (part / "manifest.json").exists()), path)
        try:
            verify(store)
        except PopdlError as error:
            # The file, from its shard on; the metadata of an array that cannot be read is named by the array.
            found += str(shard) in str(error) and str(path.relative_to(shard)) in str(error)
        finally:
            path.write_bytes(content)
    verify(results)
    note = f"{len(files)} files, each as likely as any other"
    fault = "a flipped byte of a shard, a store's index or a model"
    yield Outcome(fault, "`popdl verify` names the file", options.flips, found, note)


def full_disk(folder: Path, options: Options) -> Iterator[Outcome]:
    """Every step on a file system without a free byte; without the right to mount one, with files of 1 KiB at most."""
    undisturbed(folder)
    with disk(folder / "disk") as mounted:
        study = Path(shutil.copytree(folder / "undisturbed", folder / "disk/study"))
        filler = folder / "disk/filler"
        if mounted:
            words, how, limit = "No space left on device|may be full", "a tmpfs", ()
        else:
            words, how = "File too large|may be full", "files of 1 KiB at most: no right to mount a tmpfs"
            limit = ("bash", "-c", 'ulimit -f 1; trap "" XFSZ; exec "$@"', "-")
        kept, problems = spoiled(
            folder,
            study,
            words,
            spoil=lambda: mounted and fill(filler),
            mend=lambda: filler.unlink(missing_ok=True),
            limit=limit,
        )
    promise = "code 2, one message, nothing lost or half-written; with room again, the same bytes"
    yield Outcome("disk full, in each step", promise, len(STEPS), kept, "; ".join(filter(None, [how, problems])))


def read_only(folder: Path, options: Options) -> Iterator[Outcome]:
    """Every step where nothing can be written; root can write anywhere but to a file system that is mounted so."""
    undisturbed(folder)
    with disk(folder / "locked") as mounted:
        fault = "read-only results, in each step"
        promise = "code 2, one message; when they can be written, the same bytes"
        if not mounted and os.geteuid() == 0:
            yield Outcome(fault, promise, 0, 0, "skipped: root, without the right to mount")
            return
        study = Path(shutil.copytree(folder / "undisturbed", folder / "locked/study"))

        def remount(how: str) -> None:
            if mounted:
                subprocess.run(["mount", "-o", f"remount,{how}", str(folder / "locked")], check=True)
            else:
                call("chmod", "-R", "a-w" if how == "ro" else "u+w", str(study))

        words = "Read-only file system" if mounted else "Permission denied"
        kept, problems = spoiled(folder, study, words, spoil=lambda: remount("ro"), mend=lambda: remount("rw"))
    yield Outcome(fault, promise, len(STEPS), kept, problems)


def vanished(folder: Path, options: Options) -> Iterator[Outcome]:
    """A shard, taken away between two steps."""
    study = copied(folder, "vanished")
    shutil.rmtree(study / "results/test/simulations.zarr/shard_1/genotypes")
    shutil.rmtree(study / "results/test/dataset.zarr")
    done = call(*popdl("encode", study))
    words = ("shard_1", "is missing", "run the step that makes it again")
    kept = done.returncode == 2 and all(word in said(done) for word in words) and "Traceback" not in said(done)
    yield Outcome("a vanished input", "code 2, naming it and what to do", 1, int(kept))


def clock(folder: Path, options: Options) -> Iterator[Outcome]:
    """The file to share, lost after the clock has jumped; all others are then a year old, or a year in the future."""
    expected = undisturbed(folder)
    study = copied(folder, "clock")
    lost = study / "results/test/model.safetensors"
    year = 365 * 86400 * 10**9

    def jump(years: int) -> None:
        for path in filter(Path.is_file, study.rglob("*")):
            os.utime(path, ns=(path.stat().st_mtime_ns - years * year,) * 2)
        lost.unlink()

    jump(1)
    done = call(*command(study))
    problem = said(done)[-300:] if done.returncode else differences(digests(study), expected)
    yield Outcome("a clock that jumps a year forwards", "the results are the same", 1, int(not problem), problem)

    jump(-2)
    done = call(*command(study))
    told = bool(done.returncode) and "clock skew" in said(done)
    call("find", str(lost.parent), "-exec", "touch", "-d", "now", "{}", "+")
    again = call(*command(study))
    problem = said(again)[-300:] if again.returncode else differences(digests(study), expected)
    promise = "Snakemake stops and names the clock; after `find results/STUDY -exec touch -d now {} +` the results are the same"
    yield Outcome("a clock that jumps a year back", promise, 1, int(told and not problem), problem)


def twice(study: Path, env: Mapping[str, str] | None = None) -> tuple[bool, bool]:
    """Start a study twice in one folder: whether the second was refused, and the first ended well."""
    study.mkdir()
    first = subprocess.Popen(
        command(study), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})}
    )
    while not list(study.glob(".snakemake/locks/*")) and first.poll() is None:
        time.sleep(0.2)
    second = call(*command(study), env=env)
    words = said(second)
    refused = bool(second.returncode) and "cannot be locked" in words and "--unlock" in words
    return refused and "Traceback" not in words, first.wait() == 0


def two_runs(folder: Path, options: Options) -> Iterator[Outcome]:
    """The same study started twice in one folder."""
    expected = undisturbed(folder)
    refused, ended = twice(folder / "twice")
    note = differences(digests(folder / "twice"), expected)
    promise = "refused, saying “cannot be locked” and what to do; the first ends as if alone"
    yield Outcome("a second run in the same folder", promise, 1, int(refused and ended and not note), note)


REFUSALS = """
import fcntl, os, sys
file = open(sys.argv[1], "w")
calls = [lambda: fcntl.flock(file, fcntl.LOCK_EX), lambda: fcntl.lockf(file, fcntl.LOCK_EX), lambda: os.link(file.name, file.name + "2")]
for call in calls:
    try:
        call()
    except OSError:
        continue
    sys.exit(1)
"""
"""Ends with code 1 if any lock or hard link is given."""


def no_locks(folder: Path, options: Options) -> Iterator[Outcome]:
    """File systems that give no locks (flock, lockf, fcntl) and no hard links, as some that clusters share."""
    fault = "a file system without locks and hard links"
    promise = "the results are the same, a second run is still refused, and a shard that would be linked is copied"
    library = folder / "no_locks.so"
    build = ["cc", "-shared", "-fPIC", "-o", str(library), str(ROOT / "benchmarks/_no_locks.c"), "-ldl"]
    if shutil.which("cc") is None or call(*build).returncode:
        yield Outcome(fault, promise, 0, 0, "skipped: no C compiler to build what refuses them")
        return
    expected = undisturbed(folder)
    record = folder / "refused.txt"
    env = {"LD_PRELOAD": str(library), "REFUSED": str(record)}
    if call(sys.executable, "-c", REFUSALS, str(folder / "file"), env=env).returncode:
        yield Outcome(fault, promise, 0, 0, "skipped: nothing can be preloaded here")
        return
    record.unlink()
    refused, ended = twice(folder / "no_locks", env)
    asked = Counter(record.read_text().split()) if record.exists() else Counter()
    problem = differences(digests(folder / "no_locks"), expected)
    shard = folder / "no_locks/results/test/simulations.zarr/shard_0"
    code = "import sys, pathlib; from popdl.store import link_shard; link_shard(*map(pathlib.Path, sys.argv[1:]))"
    linked = call(sys.executable, "-c", code, str(shard), str(folder / "linked"), env=env).returncode == 0
    linked = linked and "link" in record.read_text() and verify(folder / "linked") != ""
    note = f"locks and links that a study asked for: {sum(asked.values())}"
    kept = refused and ended and linked and not problem
    yield Outcome(fault, promise, 1, int(kept), "; ".join(filter(None, [note, problem])))


SECTIONS: dict[str, Callable[[Path, Options], Iterator[Outcome]]] = {
    "full_disk": full_disk,
    "read_only": read_only,
    "flip": flip,
    "vanished": vanished,
    "clock": clock,
    "two_runs": two_runs,
    "no_locks": no_locks,
    "preempted": preempted,
    "kill": kill,
}


def table(lines: list[dict[str, Any]]) -> str:
    rows = ["| section | fault | promise | tries | kept | |", "|---|---|---|---:|---:|---|"]
    keys = ("fault", "promise", "tries", "kept", "note")
    rows += [f"| `{line['section']}` | {' | '.join(str(line[key]) for key in keys)} |" for line in lines]
    where = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    minutes = sum({line["section"]: line["seconds"] for line in lines}.values()) / 60
    return "\n".join(rows) + f"\n\nWritten on {datetime.now(UTC):%Y-%m-%d}, on {where}, in {minutes:.0f} minutes.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"default: all of {', '.join(SECTIONS)}")
    parser.add_argument("--minutes", type=float, default=30, help="time after which nothing more is killed")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    if options.write and options.sections:
        parser.error("--write writes the whole table: name no section.")
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

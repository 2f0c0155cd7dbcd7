"""Any program that prints ms text or writes a tree sequence: ms, msms, discoal, scrm, SLiM, a script of your own."""

from __future__ import annotations

import shlex
import signal
import string
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from popdl.config.base import suggestion
from popdl.errors import PopdlError
from popdl.ms_text import read_replicates
from popdl.priors import Prior
from popdl.simulators._base import Example, Failed, Simulator
from popdl.tree_files import load_trees, trees_example

__all__ = ["Command"]

OUTPUT = "output"
MAX_SEED = 2**31
"""Seeds are below this: the largest that every program with a signed 32-bit seed takes."""
SHOWN_LINES = 10
OWN_FAULTS = (*range(1, 128), *(-fault for fault in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)))
"""Exit codes that blame the parameters. Others (SIGKILL, SIGTERM, and 128 + their numbers) come from the machine, on which no result
may depend."""


class Command(Simulator):
    """A program of your own, run once for each example, without a shell. In `command`, `{name}` stands for the value of a
    parameter (`{name:.4f}` formats it), `{seed}` for a whole number that differs in every example, and `{num_haplotypes}` and
    `{sequence_length}` for those keys. Parameters can have any names; sizes and rates mean what the program takes them for."""

    command: str = Field(min_length=1)
    """The command line: `scrm {num_haplotypes} 1 -t {theta} -seed {seed}`. It must print one replicate of ms text, or write `{output}`."""
    output: Literal["ms", "trees"] = "ms"
    """What the program gives: ms text on its standard output, or a tree sequence in the file `{output}`."""
    mutation_rate: Prior | None = None  # type: ignore[assignment]
    """Per bp per generation, for the command; and for tree sequences without sites, to which mutations are added."""
    recombination_rate: Prior | None = None  # type: ignore[assignment]
    """Per bp per generation, for the command."""

    @model_validator(mode="after")
    def _check_command(self) -> Command:
        if isinstance(self.num_haplotypes, dict):
            raise ValueError("num_haplotypes: give one number, and write populations into the command")
        try:
            words = shlex.split(self.command)
            fields = [parsed for word in words for parsed in string.Formatter().parse(word)]
        except ValueError as error:
            raise ValueError(f"command: {error}: found {self.command!r}") from None
        used = {field for _, field, _, _ in fields if field is not None}
        known = [*self.priors, "seed", "num_haplotypes", "sequence_length"]
        known += [OUTPUT] if self.output == "trees" else []
        for field in sorted(used - set(known)):
            raise ValueError(f"command: {{{field}}} means nothing; {suggestion(field, known)}")
        for needed in ["seed", *([OUTPUT] if self.output == "trees" else [])]:
            if needed not in used:
                raise ValueError(f"command: there is no {{{needed}}} in it, so examples would not differ as they must")
        multipliers = {name for prior in self.priors.values() for name in prior.references}
        for name in self.parameters:
            if name not in used | multipliers:
                raise ValueError(f"command: the parameter {name} is not used in it; write {{{name}}}")
        return self

    def needed_parameters(self) -> tuple[str, ...]:
        return tuple(self.parameters)

    def input_files(self) -> list[Path]:
        return [Path(word) for word in shlex.split(self.command) if Path(word).is_file()]

    def simulate(self, parameters: dict[str, float], generator: np.random.Generator) -> Example:
        with tempfile.TemporaryDirectory(prefix="popdl_") as folder:
            written = Path(folder) / "output.trees"
            words = self._words(parameters, seed=int(generator.integers(1, MAX_SEED)), output=written)
            printed = _run(words)
            line = shlex.join(words)
            if self.output == "trees":
                if not written.exists():
                    raise PopdlError(f"`{line}` ended well but wrote no {{output}}; correct the command.")
                return trees_example(
                    load_trees(written),
                    num_haplotypes=self.total_haplotypes,
                    sequence_length=self.sequence_length,
                    mutation_rate=parameters.get("mutation_rate"),
                    generator=generator,
                    where=f"output of `{line}`",
                )
        replicates = list(
            read_replicates(
                printed.splitlines(),
                num_haplotypes=self.total_haplotypes,
                sequence_length=self.sequence_length,
                where=f"output of `{line}`",
            )
        )
        if len(replicates) != 1:
            raise PopdlError(
                f"`{line}` printed {len(replicates)} replicates of ms text, expected one: it runs once for each example."
            )
        return replicates[0].example

    def _words(self, parameters: dict[str, float], *, seed: int, output: Path) -> list[str]:
        """The command line with its placeholders filled in, word by word: a value can never become a word of its own."""
        values: dict[str, str | int | float] = {
            "seed": seed,
            "num_haplotypes": self.total_haplotypes,
            "sequence_length": _plain(self.sequence_length),
            OUTPUT: str(output),
        }
        for name, value in parameters.items():
            arguments = self.priors[name].arguments
            is_word = self.priors[name].distribution == "choice" and isinstance(arguments[0], str)  # type: ignore[index]
            values[name] = self.priors[name].classes[int(value)] if is_word else _plain(value)
        try:
            return [word.format(**values) for word in shlex.split(self.command)]
        except (ValueError, TypeError) as error:
            raise PopdlError(f"simulation.command: {self.command!r} cannot be filled in: {error}.") from None


def _plain(value: float) -> int | float:
    """A whole number without a decimal point, which many programs refuse."""
    return int(value) if value.is_integer() else value


def _run(words: list[str]) -> bytes:
    """What a program prints; one that fails is shown with its command line and the end of what it said."""
    line = shlex.join(words)
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise PopdlError(
            f"`{line}` cannot be run: {error.strerror}; install {words[0]}, or correct the command."
        ) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace").splitlines()[-SHOWN_LINES:]
        message = "\n  ".join([f"`{line}` failed with exit code {done.returncode}:", *(said or ["(it said nothing)"])])
        if done.returncode in OWN_FAULTS:
            raise Failed(message, reason=f"the program ended with exit code {done.returncode}")
        raise PopdlError(message)
    return done.stdout

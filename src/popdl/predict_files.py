"""`popdl predict`: from model files and whatever there is to predict to one table, on a chosen device, all or nothing."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from tqdm import tqdm

from popdl import plugins
from popdl.config.application import Application
from popdl.config.base import validate
from popdl.dataset import encode_with
from popdl.encoding import Encoder
from popdl.ensembles import HalfWidths, load_models
from popdl.errors import PopdlError
from popdl.files import whole
from popdl.model import Model
from popdl.plugins import Trust
from popdl.prediction import BATCH_SIZE, Progress, example_table, window_table
from popdl.prediction_tables import bed_table, table_columns, table_text
from popdl.store import MANIFEST, find_shards, read_shard, shard_paths
from popdl.windows import encode_windows

__all__ = ["Device", "predict_files"]

Device = Literal["auto", "cpu", "cuda"]
WEIGHTS = (".pth", ".pt", ".ckpt")
"""How files of torch end."""
BED_COLUMNS = 6
"""The columns of a BED file that have a fixed place."""
OPTIONS = {
    "predict: the config is not valid:": "popdl predict: these options cannot be used:",
    "set samples.number to": "use --number",
    "samples.number": "--number",
    "samples.names or samples.file": "--samples",
    "samples:": "--samples:",
    "ancestral:": "--ancestral:",
    "`build`": "`--build`",
    "regions:": "--region:",
    "windows.size": "--window-size",
    "windows.sites": "--window-sites",
    "windows.step": "--step",
}
"""How the command line names what messages call by the key of a config; the longer one first."""


@dataclass(frozen=True)
class _Work:
    """What every input is predicted with."""

    models: Sequence[Model]
    half_widths: HalfWidths | None
    application: Mapping[str, Any]
    seed: int
    batch_size: int
    progress: Progress

    @property
    def _how(self) -> dict[str, Any]:
        return {"half_widths": self.half_widths, "batch_size": self.batch_size, "progress": self.progress}

    @property
    def encoder(self) -> Encoder:
        return self.models[0].encoder

    def table(self, path: Path) -> pd.DataFrame:
        """The predictions of one input."""
        if not _is_store(path):
            return self._genome(path)
        if _holds_windows(path):
            return window_table(self.models, path, **self._how)
        return pd.concat([self._examples(shard) for shard in find_shards(path)], ignore_index=True)

    def _genome(self, vcf: Path) -> pd.DataFrame:
        """Cut a genome into windows, by default as long as those of the training, and encode it by the model's own recipe."""
        values = {key: value for key, value in self.application.items() if value is not None}
        windows = {key: value for key, value in values.get("windows", {}).items() if value is not None}
        if not {"size", "sites"} & set(windows):
            windows["size"] = self.encoder.sequence_length
        samples = {key: value for key, value in values.get("samples", {}).items() if value is not None}
        values |= {"vcf": vcf, "windows": windows, "ploidy": self.encoder.ploidy}
        with tempfile.TemporaryDirectory() as folder:
            shard = Path(folder) / "windows"
            try:
                checked = validate(Application, values | ({"samples": samples} if samples else {}), where="predict")
                encode_windows(vcf, application=checked, encoder=self.encoder, seed=self.seed, output=shard)
            except PopdlError as error:
                raise PopdlError(_in_options(str(error))) from None
            return window_table(self.models, shard, **self._how)

    def _examples(self, shard: Path) -> pd.DataFrame:
        """Predict encoded examples; raw ones are encoded by the model's own recipe first."""
        with tempfile.TemporaryDirectory() as folder:
            opened, encoded = read_shard(shard, kind=None), shard
            if opened.kind == "simulations":
                encoded = Path(folder) / "encoded"
                encode_with(self.encoder, opened, encoded, seed=self.seed)
            try:
                return example_table(self.models, encoded, **self._how)
            except PopdlError as error:
                raise PopdlError(f"{shard}: {error}") from None


def predict_files(
    models: Sequence[Path],
    inputs: Sequence[Path],
    *,
    application: Mapping[str, Any],
    seed: int,
    output: Path,
    append: bool = False,
    device: Device = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    trust: Trust = plugins.in_project,
) -> None:
    """Predict genomes, or stores of examples, and write one table.

    Parameters
    ----------
    models
        Model files, which are averaged, or one ensemble.
    inputs
        VCF or BCF files and shards of kind ``windows``, which give windows; or stores or shards of simulated, imported or
        encoded examples, which give examples.
    application
        For genomes, as in the config under ``applications.<name>``; None counts as not given.
    seed
        Seed of the draw of individuals and of random crops.
    output
        Name of the files without their endings: ``<output>.tsv``, with the columns of
        :func:`popdl.prediction.predict_windows` or :func:`popdl.prediction.example_table`, and for windows ``<output>.bed``. A
        column ``file`` says which input a row is of.
    append
        Add the rows to files that are there; an input whose rows they hold already is refused.
    device
        ``auto`` takes the GPU that it finds.
    threads
        CPU threads (default: torch's own choice).
    batch_size
        Examples at once.
    trust
        As in :func:`popdl.model.load_model`.

    Raises
    ------
    PopdlError
        If a model or an input cannot be used, or the columns differ from those of the file to append to. Nothing is
        written then.
    """
    for path in [*models, *inputs]:
        if not path.exists():
            raise PopdlError(f"{path}: there is no such file or folder; correct the name.")
    for path in inputs:
        _refuse_foreign(path)
    if not models or not inputs:
        given = ", ".join(map(str, [*models, *inputs])) or "no file"
        missing = "nothing to predict (a VCF, or a store of examples)" if models else "no model (.safetensors)"
        raise PopdlError(f"{given}: there is {missing} among these files; give both.")
    windows = [not _is_store(path) or _holds_windows(path) for path in inputs]
    if len(set(windows)) > 1:
        one, other = inputs[windows.index(True)], inputs[windows.index(False)]
        raise PopdlError(f"{one} gives windows of a genome, {other} gives examples; predict them into two files.")
    if all(_is_store(path) for path in inputs) and _is_given(application):
        raise PopdlError(
            f"{inputs[0]}: samples, regions and windows are chosen for genomes; leave them out for a store."
        )
    if len(set(inputs)) < len(inputs):
        raise PopdlError(f"{max(inputs, key=inputs.count)}: this file is given twice; give it once.")
    with _machine(device, threads) as place:
        loaded, half_widths = load_models(models, trust=trust)
        _refuse_twice(loaded)
        if append:
            _check_table(output.with_name(output.name + ".tsv"), loaded, inputs, windows=windows[0])
        loaded = [replace(model, module=model.module.to(place)) for model in loaded]
        with tqdm(unit="example", disable=not sys.stderr.isatty()) as bar:
            work = _Work(loaded, half_widths, application, seed, batch_size, bar.update)
            written: dict[Path, list[pd.DataFrame]] = {}
            for path in inputs:
                bar.set_description(path.name)
                table = work.table(path)
                made = {".tsv": (table, 0), **({".bed": (bed_table(table), BED_COLUMNS)} if windows[0] else {})}
                for ending, (part, place_of_file) in made.items():
                    part.insert(place_of_file, "file", str(path))
                    written.setdefault(output.with_name(output.name + ending), []).append(part)
    texts = {path: _text(path, pd.concat(parts, ignore_index=True), append) for path, parts in written.items()}
    with ExitStack() as stack:
        partials = {path: stack.enter_context(whole(path)) for path in texts}
        for path, text in texts.items():
            partials[path].write_text(text, encoding="utf-8")


def _in_options(message: str) -> str:
    """A message about an application with the options of the command line in the place of keys."""
    keys = "|".join(map(re.escape, OPTIONS))
    return re.sub(rf"(?<![\w./-])(?:{keys})(?!\w)", lambda found: OPTIONS[found[0]], message)


def _is_given(value: Any) -> bool:
    """Whether anything in an application is not None."""
    return any(map(_is_given, value.values())) if isinstance(value, Mapping) else value is not None


def _refuse_foreign(path: Path) -> None:
    """Refuse what is neither a genome nor a store by saying what to do with it."""
    guide = "docs/from_dnadna.md#predicting shows how"
    if path.suffix in WEIGHTS:
        raise PopdlError(
            f"{path}: weights of dnadna cannot be taken over (they are pickles, which popdl never opens); train the network anew."
        )
    if path.suffix == ".npz":
        raise PopdlError(f"{path}: npz files are imported before they are predicted; {guide}.")
    if path.suffix in (".yaml", ".yml"):
        raise PopdlError(
            f"{path}: a config cannot be predicted; `popdl import` the data set and give its store; {guide}."
        )
    if path.is_dir() and not _is_store(path):
        raise PopdlError(
            f"{path}: this folder is no store of examples; give one, e.g. results/<study>/simulations.zarr. "
            f"Files of other programs are imported first; {guide}."
        )


def _refuse_twice(models: Sequence[Model]) -> None:
    """Refuse to average a model with itself."""
    seen: dict[str, Path] = {}
    for model in models:
        digest = model.card["weights_sha256"]
        if digest in seen:
            raise PopdlError(
                f"{model.path}: this is the same model as {seen[digest]}, which would count twice; give it once."
            )
        seen[digest] = model.path


def _is_store(path: Path) -> bool:
    return (path / MANIFEST).exists() or bool(path.is_dir() and shard_paths(path))


def _holds_windows(path: Path) -> bool:
    return (path / MANIFEST).exists() and read_shard(path, kind=None).kind == "windows"


@contextmanager
def _machine(device: Device, threads: int | None) -> Iterator[torch.device]:
    """The device to predict on; torch's number of threads is as before afterwards."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PopdlError("--device cuda: torch finds no GPU here; use `--device cpu`, or install torch for your GPU.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")
    finally:
        torch.set_num_threads(before)


def _check_table(path: Path, models: Sequence[Model], inputs: Sequence[Path], *, windows: bool) -> None:
    """Refuse to append to a table of something else, or what is there already: before any work."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        found = file.readline().rstrip("\n").split("\t")
    expected = ["file", *table_columns(models, windows=windows)]
    truths = {f"{name}_true" for name in models[0].card["targets"]}  # only the rows tell whether they are there
    if [name for name in found if windows or name not in truths] != expected:
        raise _other_columns(path, expected, found)
    there = set(pd.read_csv(path, sep="\t", usecols=["file"], dtype=str)["file"])
    for name in inputs:
        if str(name) in there:
            raise PopdlError(f"{name}: --append: its rows are in {path} already; leave it out, or write another file.")


def _other_columns(path: Path, expected: Sequence[str], found: Sequence[str]) -> PopdlError:
    others = sorted({*expected} ^ {*found})
    return PopdlError(
        f"{path}: --append needs a table with the columns {', '.join(expected)}, found {', '.join(found)}"
        + (f" (only in one of them: {', '.join(others)})" if others else "")
        + "; predict into another file."
    )


def _text(path: Path, table: pd.DataFrame, append: bool) -> str:
    """What a file shall hold."""
    text = table_text(table)
    if not (append and path.exists()):
        return text
    there = path.read_text(encoding="utf-8")
    header, rows = text.split("\n", 1)
    found = there.partition("\n")[0].split("\t")
    if found != header.split("\t") or not there.endswith("\n"):
        raise _other_columns(path, list(table.columns), found)
    return there + rows

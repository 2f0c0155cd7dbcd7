"""The lists of transforms of a study, from the config or from a model's card, and the batches that come out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from popdl import plugins, seeds
from popdl.config.base import Section, validate_options
from popdl.config.transforms import Entry, Transforms, options_of
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.loader import Batch, PackedData, as_written
from popdl.transforms._base import Examples, Form, Transform, View

if TYPE_CHECKING:
    from popdl.config.study import Study

__all__ = ["Pipeline", "Pipelines", "describe", "pipeline_of", "settings_of"]

SPLITS = ("train", "validation", "prediction")


@dataclass(frozen=True)
class Pipeline:
    """One list of transforms, checked against the data that it will meet."""

    steps: tuple[Transform, ...]
    """Those that batches pass through."""
    view: View | None
    """The one that ends the list: it waits for standardised positions, so the module applies it."""
    loaded: Form
    """The batches that the loader makes."""
    values: str
    """``encoding.values``: how alleles are written at the end."""
    scales: Mapping[str, tuple[int, float, float]] = field(default_factory=dict)
    """Column, mean and standard deviation of each target that is moved."""

    @classmethod
    def build(
        cls, split: str, entries: Sequence[Entry], *, encoder: Encoder, targets: Mapping[str, Mapping[str, Any]]
    ) -> Pipeline:
        """Build a list.

        Parameters
        ----------
        split
            ``train``, ``validation`` or ``prediction``: only the first may use chance or move targets.
        entries
            The list, as in the config.
        encoder
            The recipe of the data.
        targets
            Description of every target: ``task``, ``scale``, and once it is fitted ``mean`` and ``sd``.

        Raises
        ------
        PopdlError
            For the first entry that is unknown, has wrong options, or does not fit what the entries before it give.
        """
        form = loaded = Form.of(encoder)
        steps: list[Transform] = []
        for number, entry in enumerate(entries):
            where = f"transforms.{split}[{number}]"
            transform = _transform(entry, form, where=where)
            if split != "train":
                _refuse_chance(transform, where=where)
            if steps and isinstance(steps[-1], View):
                raise PopdlError(f"{where}: nothing can follow concat or product; put it before.")
            _check_targets(transform.moves, targets, where=where, length=form.length)
            steps.append(transform)
            form = transform.after
        view = steps.pop() if steps and isinstance(steps[-1], View) else None
        assert view is None or isinstance(view, View)
        names = list(targets)
        scales = {
            name: (names.index(name), targets[name]["mean"], targets[name]["sd"])
            for step in steps
            for name in step.moves
            if targets[name].get("sd") is not None
        }
        return cls(tuple(steps), view, loaded, encoder.settings.values, scales)

    @property
    def form(self) -> Form:
        """The batches that come out, before the view."""
        return self.steps[-1].after if self.steps else self.loaded

    @property
    def seen(self) -> Form:
        """What the network sees, after the view."""
        return self.form if self.view is None else self.view.after

    def generator(self, run_seed: int, *index: int, device: torch.device) -> Generator | None:
        """The generator of one batch: it depends on the run and on the number of the step, not on the steps before."""
        if not self.steps:
            return None
        # Other keys of this purpose are (epoch,) and (epoch, 1).
        seed = int(seeds.generator(run_seed, "training", 0, 2, *index).integers(2**63))
        return Generator(device).manual_seed(seed)

    def batch(self, data: PackedData, rows: Tensor, *, generator: Generator | None = None) -> Batch:
        """Unpack and transform these rows of the data; see :meth:`training_batch`."""
        if not self.steps:
            return data.batch(rows)
        return self._written(self._transformed(Examples(*data.batch(rows, values="0/1")), generator))

    def training_batch(
        self, data: PackedData, rows: Tensor, truths: Tensor, *, generator: Generator | None
    ) -> tuple[Batch, Tensor]:
        """Unpack and transform a batch whose targets may move along.

        Parameters
        ----------
        data
            Encoded examples.
        rows : Tensor of shape (batch,), dtype=int64
            Which of them.
        truths : Tensor of shape (batch, num_targets), dtype=float32
            On the networks' scale, NaN where missing.
        generator
            From :meth:`generator`.

        Returns
        -------
        The batch, and its truths.
        """
        if not self.scales:
            return self.batch(data, rows, generator=generator), truths
        natural = {name: truths[:, column].double() * sd + mean for name, (column, mean, sd) in self.scales.items()}
        examples = self._transformed(Examples(*data.batch(rows, values="0/1"), natural), generator)
        truths = truths.clone()
        for name, (column, mean, sd) in self.scales.items():
            truths[:, column] = ((examples.targets[name] - mean) / sd).to(truths.dtype)
        return self._written(examples), truths

    def _transformed(self, examples: Examples, generator: Generator | None) -> Examples:
        for step in self.steps:
            examples = step(examples, generator)
        return examples

    def _written(self, examples: Examples) -> Batch:
        genotypes = as_written(examples.genotypes, examples.mask, values=self.values)
        return Batch(genotypes, examples.positions, examples.mask)


@dataclass(frozen=True)
class Pipelines:
    """The lists of a study."""

    train: Pipeline
    validation: Pipeline
    prediction: Pipeline

    @classmethod
    def build(cls, settings: Transforms, *, encoder: Encoder, targets: Mapping[str, Mapping[str, Any]]) -> Pipelines:
        """Build all lists, or raise a :class:`PopdlError` with every list's first problem.

        Parameters
        ----------
        settings
            The ``transforms:`` section.
        encoder, targets
            As in :meth:`Pipeline.build`.
        """
        lists: dict[str, Pipeline] = {}
        problems = []
        for split in SPLITS:
            name = "prediction" if split == "validation" and settings.validation is None else split
            try:
                lists[split] = Pipeline.build(name, settings.entries(split), encoder=encoder, targets=targets)
            except PopdlError as error:
                problems.append(str(error))
        if problems:
            raise PopdlError("\n".join(dict.fromkeys(problems)))
        made = cls(**lists)
        for split in ("train", "validation"):
            if (found := _ending(lists[split])) != (expected := _ending(made.prediction)):
                raise PopdlError(
                    f"transforms.{split}: networks get {found} from this list, but {expected} from transforms.prediction; "
                    "end both with the same reformat, concat or product, and make individuals or populations the rows of both or of neither."
                )
        return made

    @classmethod
    def of(cls, study: Study) -> Pipelines:
        """The lists of a study whose targets are not fitted yet."""
        targets = {name: target.model_dump(mode="json") for name, target in study.targets.items()}
        return cls.build(study.transforms, encoder=Encoder.of(study), targets=targets)


def describe(settings: Transforms) -> dict[str, list[dict[str, Any]]]:
    """The section as a model's card holds it: all defaults spelled out, and the source of a user's own files."""
    return {
        split: [_described(entry, where=f"transforms.{split}") for entry in settings.entries(split)] for split in SPLITS
    }


def pipeline_of(card: Mapping[str, Any], *, encoder: Encoder) -> Pipeline:
    """The list for prediction of a model's card; a card without the key is of a model without transforms."""
    parts = card.get("transforms", {}).get("prediction", [])
    entries: list[Entry] = [{**part["options"], "name": part["name"]} for part in parts]
    return Pipeline.build("prediction", entries, encoder=encoder, targets=card["targets"])


def _described(entry: Entry, *, where: str) -> dict[str, Any]:
    name, _, settings = settings_of(entry, where=where)
    return plugins.describe(name, settings.model_dump(mode="json"))


def settings_of(entry: Entry, *, where: str) -> tuple[str, type[Transform], Section]:
    """The name of a transform, its class, and its checked options."""
    name, options = options_of(entry, where=where)
    try:
        part = plugins.load("transforms", name, Transform)
    except PopdlError as error:
        raise PopdlError(f"{where}: {error}") from None
    return name, part, validate_options(part.Settings, options, key=where)


def _transform(entry: Entry, form: Form, *, where: str) -> Transform:
    name, part, settings = settings_of(entry, where=where)
    try:
        return part(settings, form)
    except ValueError as error:
        raise PopdlError(f"{where}: {name}: {error}.") from None


def _refuse_chance(transform: Transform, *, where: str) -> None:
    if transform.chance is not None:
        raise PopdlError(
            f"{where}: chance is for training alone, as a prediction must depend on nothing but its example; found {transform.chance}."
        )
    if transform.moves:
        raise PopdlError(
            f"{where}: targets ({', '.join(transform.moves)}) can be moved in training alone, as predictions are not moved back; leave it out."
        )


def _check_targets(
    names: Sequence[str], targets: Mapping[str, Mapping[str, Any]], *, where: str, length: float
) -> None:
    for name in names:
        if name not in targets:
            raise PopdlError(f"{where}.targets: {name!r} is not a target; known: {', '.join(targets)}.")
        kind = (targets[name]["task"], targets[name]["scale"])
        if kind != ("regression", "linear"):
            raise PopdlError(
                f"{where}.targets: {name} is moved by some bp, so it must be a regression with `scale: linear`, found {kind[0]} with `scale: {kind[1]}`."
            )
        if targets[name].get("circular") not in (None, length):
            raise PopdlError(
                f"{where}.targets: {name} starts again at {targets[name]['circular']:g}, but the genome at {length:g} bp; "
                f"give it in bp, with `circular: {length:g}`."
            )


def _ending(pipeline: Pipeline) -> str:
    """What networks get of positions, and of rows that are no haplotypes, in words."""
    form = pipeline.form
    style = {"none": "no positions"}.get(form.positions, f"positions as {form.positions}")
    if form.frequencies:
        rows = " and ".join(map(str, form.populations))
        style = f"frequencies{f' in {rows} rows' if rows else ''}, {style}"
    return style if pipeline.view is None else f"{style} by {type(pipeline.view).__name__.lower()}"

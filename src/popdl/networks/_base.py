"""What every network has: a body that turns a batch of encoded examples into features; the heads are shared.

A network is one file that defines one public subclass of :class:`Network`. Two rules hold for all of them, and a test
checks both: what lies under a False mask changes nothing, and in evaluation the output for one example does not depend
on the others in its batch (so batch normalisation takes its means over real sites while training, and uses running ones
in evaluation). A network keeps its state in parameters and buffers of dtype float32: a model file holds no other.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from popdl import plugins
from popdl.config.base import Section, validate_options
from popdl.errors import PopdlError
from popdl.transforms._pipeline import Pipeline, Pipelines

if TYPE_CHECKING:
    from popdl.config.study import Study

__all__ = ["InputShape", "Network", "build", "check", "dense", "describe", "network_name", "settings_of"]


OPTIONAL = ("populations", "frequencies", "distances")
"""What a card says of a shape only where there is something to say."""


@dataclass(frozen=True)
class InputShape:
    """The shape of one encoded example."""

    num_haplotypes: int
    max_sites: int
    has_positions: bool
    populations: tuple[int, ...] = ()
    """Rows of each population, one after the other; empty where there is one population."""
    frequencies: bool = False
    """Whether rows are individuals or populations, and cells the share of 1s among their alleles, in place of haplotypes and alleles."""
    distances: bool = field(default=False, compare=False)
    """Whether positions are distances from the previous site. The encoding says so already: two shapes that differ in this alone are the same."""

    @classmethod
    def of(cls, study: Study) -> InputShape:
        """The shape of a study's examples when they are predicted, after its transforms."""
        return cls.after(Pipelines.of(study).prediction)

    @classmethod
    def after(cls, transforms: Pipeline) -> InputShape:
        """The shape of the largest batch after a list of transforms."""
        form = transforms.seen
        return cls(
            form.num_haplotypes,
            form.max_sites,
            has_positions=form.positions != "none",
            populations=form.populations,
            frequencies=form.frequencies,
            distances=form.positions == "distance",
        )

    @classmethod
    def others(cls, transforms: Pipelines) -> list[InputShape]:
        """The shapes that a network built for prediction must take beside that: of training and validation, at both ends."""
        shapes = [
            replace(cls.after(pipeline), num_haplotypes=num_haplotypes)
            for pipeline in (transforms.train, transforms.validation)
            for num_haplotypes in (pipeline.seen.fewest_haplotypes, pipeline.seen.num_haplotypes)
        ]
        return [shape for shape in dict.fromkeys(shapes) if shape != cls.after(transforms.prediction)]

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> InputShape:
        """The shape in a model's card, which says nothing of what the model does not have."""
        known = {name: shape[name] for name in cls.__dataclass_fields__ if name in shape}
        return cls(**{**known, "populations": tuple(known.get("populations", ()))})

    def check_haplotypes(self) -> None:
        """For networks that compare haplotypes: raise :class:`ValueError` where rows are something else."""
        if self.frequencies:
            raise ValueError(
                "this network compares haplotypes, and `transforms` makes rows of individuals or populations; use site_pairs, definetti, spidna, or one that reads an order"
            )

    def to_json(self) -> dict[str, Any]:
        shape = {**asdict(self), "populations": list(self.populations)}
        return {name: value for name, value in shape.items() if value or name not in OPTIONAL}


class Network(nn.Module):
    """The body of a model.

    A subclass defines ``Settings`` (its options in the config), ``__init__(settings, shape)``, which sets
    ``num_features`` and raises :class:`ValueError` for a shape that it cannot take, and :meth:`forward`.
    """

    class Settings(Section):
        """Options of the network, in the config under ``networks.<key>``."""

    citation: ClassVar[str | None] = None
    """The paper that published the network, which the report asks to cite; None where there is none."""
    exchangeable: ClassVar[bool] = False
    """Whether the order of haplotypes, of those of each population, makes no difference."""

    num_features: int
    """Length of the feature vector that :meth:`forward` returns for each example."""

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__()
        self.settings = settings
        self.shape = shape

    def by_population(self, values: Tensor, *, dim: int) -> tuple[Tensor, ...]:
        """Values for each haplotype, along the axis ``dim``, in one part for each population: in one part where there is one."""
        return values.split(self.shape.populations, dim=dim) if self.shape.populations else (values,)

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        """Compute features.

        Parameters
        ----------
        genotypes : Tensor of shape (batch, num_haplotypes, max_sites), dtype=float32
            Alleles as ``encoding.values`` writes them; 0 under padding.
        positions : Tensor of shape (batch, max_sites), dtype=float32, or None
            Standardised positions; 0 under padding. None where ``encoding.positions`` is ``none``.
        mask : Tensor of shape (batch, max_sites), dtype=bool
            True where there is a site, False under padding.

        Returns
        -------
        Tensor of shape (batch, num_features)
        """
        raise NotImplementedError


def network_name(key: str, options: Mapping[str, Any]) -> str:
    """The network's file: ``name`` in its options, else its key in the config."""
    name = options.get("name", key)
    if not isinstance(name, str):
        raise PopdlError(f"networks.{key}.name: expected the name of a network, found {name!r}.")
    return name


def settings_of(key: str, options: Mapping[str, Any]) -> tuple[type[Network], Section]:
    """The class of a network and its checked options.

    Parameters
    ----------
    key
        Key under ``networks:`` in the config.
    options
        What the config says under that key.
    """
    try:
        network = plugins.load("networks", network_name(key, options), Network)
    except PopdlError as error:
        raise PopdlError(str(error) if str(error).startswith("networks.") else f"networks.{key}: {error}") from None
    values = {name: value for name, value in options.items() if name != "name"}
    return network, validate_options(network.Settings, values, key=f"networks.{key}")


def build(key: str, options: Mapping[str, Any], shape: InputShape) -> Network:
    """Build the network of a config; a shape that it cannot take raises :class:`PopdlError`."""
    network, settings = settings_of(key, options)
    try:
        built = network(settings, shape)
    except ValueError as error:
        raise PopdlError(f"networks.{key}: {error}") from None
    if not isinstance(getattr(built, "num_features", None), int):
        raise PopdlError(
            f"networks.{key}: __init__() of {network.__name__} must set self.num_features, the number of features that its forward() returns"
        )
    return built


def check(key: str, options: Mapping[str, Any], shape: InputShape, *, others: Sequence[InputShape] = ()) -> int:
    """Check that a network takes a shape, without allocating memory, and count its parameters.

    The network is built on torch's meta device and run on one batch there, and on one of each of the other shapes.
    """
    with torch.device("meta"):
        network = build(key, options, shape).eval()
        _run(key, network, shape)
        for other in others:
            try:
                _run(key, network, other)
            except PopdlError:
                raise PopdlError(
                    f"networks.{key}: built for {_size(shape)}, as in prediction, this network does not take the {_size(other)} that "
                    "`transforms` gives it while training or validating; give it the same number everywhere, or use a network that takes any."
                ) from None
    return sum(parameter.numel() for parameter in network.parameters())


def _line(error: Exception) -> str:
    """Where in a file that is not torch's an error arose."""
    places = [place for place in traceback.extract_tb(error.__traceback__) if "site-packages" not in place.filename]
    return f" ({Path(places[-1].filename).name}, line {places[-1].lineno})"


def _run(key: str, network: Network, shape: InputShape) -> None:
    genotypes = torch.zeros(2, shape.num_haplotypes, shape.max_sites)
    positions = torch.zeros(2, shape.max_sites) if shape.has_positions else None
    mask = torch.ones(2, shape.max_sites, dtype=torch.bool)
    try:
        features = network(genotypes, positions, mask)
    except Exception as error:  # of a user's own file, any
        raise PopdlError(
            f"networks.{key}: the network fails on {_size(shape)}: {type(error).__name__}: {error}{_line(error)}"
        ) from None
    if tuple(features.shape) != (2, network.num_features):
        raise PopdlError(
            f"networks.{key}: forward() must return (batch, num_features) = (2, {network.num_features}), found {tuple(features.shape)}"
        )


def _size(shape: InputShape) -> str:
    return f"{shape.num_haplotypes} {'rows' if shape.frequencies else 'haplotypes'} × {shape.max_sites} sites"


def describe(key: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A network as a model's card holds it: with all defaults, and with the source of a user's own file."""
    _, settings = settings_of(key, options)
    return {"key": key, **plugins.describe(network_name(key, options), settings.model_dump(mode="json"))}


def dense(num_inputs: int, widths: list[int], *, dropout: float) -> nn.Sequential:
    """Fully connected layers, each followed by ReLU and dropout."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(num_inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        num_inputs = width
    return nn.Sequential(*layers)

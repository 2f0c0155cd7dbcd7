"""The exchangeable networks of Chan et al. (2018, NeurIPS, eq. 2), in full: f(X) = h(g(Φ(x₁), …, Φ(xₙ))).

Φ is a stack of layers that runs along the sites of each haplotype, with the same weights for all; g is a symmetric function of
the n results; h is a stack of layers on what g gives. Layers are written as in the authors' program defiNETti: ``[conv, width, features]``
and ``[fc, features]``; the last, linear layer is popdl's own, one output for each target. A dense layer (``fc``) reads all sites at
once, so that after it there are none left to convolve along.

With several populations, Φ is the same for all haplotypes, g has a part for each population, and h reads the parts side by side:
the order of haplotypes makes no difference within a population, and which population they are of does.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as functional
from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic_core import CoreSchema
from torch import Tensor, nn

from popdl.config.base import Section
from popdl.networks._base import InputShape, Network
from popdl.networks._masked import convolve

__all__ = ["DeFinetti"]


class StackedLayer(Section):
    """A layer as a list; ReLU follows."""

    written_as = "`[conv, width, features]` or `[fc, features]`"

    kind: Literal["conv", "fc"]
    """A convolution along sites, or a dense layer."""
    width: int = Field(default=1, ge=1)
    """Neighbouring sites that a filter sees."""
    features: int = Field(ge=1)
    """Outputs of the layer."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        match value:
            case ["conv", width, features]:
                return {"kind": "conv", "width": width, "features": features}
            case ["fc", features]:
                return {"kind": "fc", "features": features}
            case list() | tuple() | str():
                raise ValueError(f"expected [conv, width, features] or [fc, features], found {value}")
        return value

    @model_serializer
    def _to_list(self) -> list[Any]:
        return ["conv", self.width, self.features] if self.kind == "conv" else ["fc", self.features]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return _list_schema("[conv, width, features] or [fc, features].", ["conv", "fc"], minimum=2, maximum=3)


class SymmetricFunction(Section):
    """A symmetric function of the haplotypes: a word, or a list with its numbers."""

    written_as = "word or list"

    kind: Literal["max", "mean", "sum", "sort", "top_k", "moments", "attention"]
    """Which function."""
    numbers: list[int] = []
    """Its numbers: how many of the largest, which moments, how many heads."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list | tuple) and value:
            return {"kind": value[0], "numbers": list(value[1:])}
        return value

    @model_validator(mode="after")
    def _check(self) -> SymmetricFunction:
        needs = {"top_k": 1, "attention": 1}.get(self.kind, 0)
        if self.kind == "moments":
            if not self.numbers or min(self.numbers) < 1 or len(set(self.numbers)) < len(self.numbers):
                raise ValueError(
                    f"moments: expected different orders from 1, as in [moments, 1, 2], found {self.numbers}"
                )
        elif len(self.numbers) != needs or min(self.numbers, default=1) < 1:
            form = {"top_k": "[top_k, 4]", "attention": "[attention, 4]"}.get(self.kind, self.kind)
            raise ValueError(f"expected {form}, found {[self.kind, *self.numbers]}")
        return self

    @model_serializer
    def _to_list(self) -> Any:
        return [self.kind, *self.numbers] if self.numbers else self.kind

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        words = ["max", "mean", "sum", "sort"]
        lists = _list_schema("With its numbers.", ["top_k", "moments", "attention", *words], minimum=1, maximum=None)
        return {
            "description": "max, mean, sum, sort, [top_k, k], [moments, 1, 2] or [attention, heads].",
            "if": {"type": "string"},
            "then": {"enum": words},
            "else": lists,
        }


class DeFinetti(Network):
    """Φ, g and h of Chan et al. (2018): layers along each haplotype, a symmetric function of the haplotypes, and layers after it."""

    class Settings(Network.Settings):
        phi: list[StackedLayer] = [
            StackedLayer(kind="conv", width=5, features=32),
            StackedLayer(kind="conv", width=5, features=64),
        ]
        """Layers along the sites of each haplotype, e.g. `[[conv, 5, 32], [conv, 5, 64]]`."""
        g: list[SymmetricFunction] = Field(default=[SymmetricFunction(kind="max")], min_length=1)
        """Symmetric functions of the haplotypes, side by side: max, mean, sum, sort, [top_k, k], [moments, 1, 2], [attention, heads]."""
        h: list[StackedLayer] = [StackedLayer(kind="fc", features=128), StackedLayer(kind="fc", features=128)]
        """Layers after g, e.g. `[[fc, 128], [fc, 128]]`."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Share of units of the dense layers of h that are dropped while training."""

        @model_validator(mode="after")
        def _check(self) -> DeFinetti.Settings:
            kinds = [layer.kind for layer in [*self.phi, *self.h]]
            if "conv" in kinds[kinds.index("fc") :] if "fc" in kinds else False:
                raise ValueError("phi, h: no convolution can follow a dense layer, which leaves no sites; put fc last")
            return self

    citation = (
        "Chan J. et al. (2018) A likelihood-free inference framework for population genetic data using exchangeable neural networks. "
        "NeurIPS 31: 8594–8605."
    )
    exchangeable = True

    def __init__(self, settings: Any, shape: InputShape) -> None:
        super().__init__(settings, shape)
        self.phi = nn.ModuleList()
        self.h = nn.ModuleList()
        channels, length = 1, shape.max_sites
        self.positions: nn.Module | None = None
        for layer in settings.phi:
            module, next_length = _module(layer, channels, length, rank=2)
            if not len(self.phi) and shape.has_positions:
                # Positions are the same for all haplotypes, so their part of the first layer is computed once.
                self.positions = _module(layer, 1, length, rank=1, bias=False)[0]
            self.phi.append(module)
            channels, length = layer.features, next_length
        counts = shape.populations or (shape.num_haplotypes,)
        self.pools = nn.ModuleList(_Pool(pool, channels, count) for count in counts for pool in settings.g)
        channels = sum(pool.num_features for pool in self.pools)  # type: ignore[misc]
        if shape.has_positions and self.positions is None:
            channels += 1  # Φ is empty: positions go beside what g gives
        for layer in settings.h:
            module, length = _module(layer, channels, length, rank=1)
            self.h.append(module)
            channels = layer.features
        self.num_features = channels * length

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        values = genotypes.unsqueeze(1) * mask[:, None, None]
        columns = None if positions is None else (positions * mask).unsqueeze(1)
        for number, layer in enumerate(self.phi):
            values = _apply(layer, values)
            if number == 0 and self.positions is not None and columns is not None:
                values = values + _apply(self.positions, columns).unsqueeze(2)
            values = _masked(functional.relu(values), mask)
        parts = [part for part in self.by_population(values, dim=2) for _ in self.settings.g]
        values = torch.cat([pool(part) for pool, part in zip(self.pools, parts, strict=True)], dim=1)
        if self.positions is None and columns is not None:
            values = torch.cat([values, columns], dim=1)
        for layer in self.h:
            values = _masked(functional.relu(_apply(layer, values)), mask)
            if isinstance(layer, nn.Linear):
                values = functional.dropout(values, self.settings.dropout, self.training)
        return _masked(values, mask).flatten(1)


class _Pool(nn.Module):
    """A symmetric function over haplotypes: (batch, channels, haplotypes, places) to (batch, num_features, places)."""

    def __init__(self, pool: SymmetricFunction, channels: int, num_haplotypes: int) -> None:
        super().__init__()
        self.kind, self.numbers = pool.kind, pool.numbers
        if pool.kind == "top_k" and pool.numbers[0] > num_haplotypes:
            raise ValueError(f"g: top_k {pool.numbers[0]} needs as many haplotypes, found {num_haplotypes}")
        copies = {
            "sort": num_haplotypes,
            "top_k": sum(pool.numbers),
            "moments": len(pool.numbers),
            "attention": sum(pool.numbers),
        }
        self.num_features = channels * copies.get(pool.kind, 1)
        self.scores = nn.Linear(channels, pool.numbers[0], bias=False) if pool.kind == "attention" else None

    def forward(self, values: Tensor) -> Tensor:
        if self.kind in ("sort", "top_k"):
            number = values.shape[2] if self.kind == "sort" else self.numbers[0]
            return values.topk(number, dim=2).values.flatten(1, 2)
        if self.kind == "moments":
            return torch.cat([(values**order).mean(dim=2) for order in self.numbers], dim=1)
        if self.scores is not None:
            # Each head weighs the haplotypes by a softmax of its score (Ilse et al. 2018, ICML, eq. 8).
            weights = self.scores(values.movedim(1, -1)).softmax(dim=1)  # (batch, haplotypes, places, heads)
            return torch.einsum("bchp,bhpk->bckp", values, weights).flatten(1, 2)
        pooled: Tensor = getattr(torch, {"max": "amax"}.get(self.kind, self.kind))(values, dim=2)
        return pooled


def _module(layer: StackedLayer, channels: int, length: int, *, rank: int, bias: bool = True) -> tuple[nn.Module, int]:
    """The module of a layer, and how many places are left after it."""
    if layer.kind == "fc":
        return nn.Linear(channels * length, layer.features, bias=bias), 1
    if rank == 1:
        return nn.Conv1d(channels, layer.features, layer.width, bias=bias), length
    return nn.Conv2d(channels, layer.features, (1, layer.width), bias=bias), length


def _apply(layer: nn.Module, values: Tensor) -> Tensor:
    """Apply a layer to (batch, channels, [haplotypes,] places); a dense layer leaves one place."""
    if not isinstance(layer, nn.Linear):
        return convolve(layer, values)
    result: Tensor = layer(values.movedim(1, -2).flatten(-2)).unsqueeze(-1).movedim(-2, 1)
    return result


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """Zero under padding, as long as there are sites."""
    if values.shape[-1] != mask.shape[-1]:
        return values
    return values * mask.reshape(len(mask), *[1] * (values.ndim - 2), -1)


def _list_schema(description: str, words: list[str], *, minimum: int, maximum: int | None) -> dict[str, Any]:
    schema = {
        "description": description,
        "type": "array",
        "minItems": minimum,
        "prefixItems": [{"enum": words}],
        "items": {"type": "integer", "minimum": 1},
    }
    return schema if maximum is None else {**schema, "maxItems": maximum}

"""What every transform has: whole batches of examples in and out, on the device where they are.

A transform is one file that defines one public subclass of :class:`Transform`. Its alleles are 0, 1 and −1 for missing
(or frequencies between 0 and 1, where the form says so), whatever ``encoding.values`` says, and everything under a False mask is 0, before and after. Nothing loops over examples.
Chance comes from the generator that is passed in, in training alone: without one, the result for an example depends on that
example and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Generator, Tensor

from popdl.config.base import Section
from popdl.encoding import Encoder

__all__ = ["Examples", "Form", "Transform", "View"]


@dataclass(frozen=True)
class Form:
    """What is known of batches before there is one."""

    num_haplotypes: int
    """Rows of the largest batch."""
    fewest_haplotypes: int
    """Rows of the smallest one: the number may differ between batches, never within one."""
    max_sites: int
    """Columns."""
    positions: str
    """``none``, ``absolute``, ``relative`` or ``distance``, as ``encoding.positions`` says."""
    length: float
    """Length of a window in bp."""
    whole: bool
    """Whether that is all of the sequence, not a part cut from it."""
    ploidy: int
    """Haplotypes per individual."""
    individuals: bool
    """Whether those of one individual are neighbours and individuals are in the order given: sorting ends that."""
    phased: bool
    """False where every individual's alleles are written in the order 1, 0, missing (``encoding.phase: ignore``)."""
    populations: tuple[int, ...] = ()
    """Rows of each population, one after the other; empty where there is one population, of any number of rows."""
    frequencies: bool = False
    """Whether rows are individuals or populations, and cells the share of 1s among their alleles, in place of haplotypes and alleles."""

    @classmethod
    def of(cls, encoder: Encoder) -> Form:
        """The batches that the loader makes of a recipe's data."""
        settings = encoder.settings
        return cls(
            num_haplotypes=encoder.num_haplotypes,
            fewest_haplotypes=encoder.num_haplotypes,
            max_sites=settings.max_sites,
            positions=settings.positions,
            length=encoder.window_length,
            whole=settings.crop_length is None,
            ploidy=encoder.ploidy,
            individuals=settings.sort == "none",
            phased=settings.phase == "keep",
            populations=tuple(encoder.populations.values()) if len(encoder.populations) > 1 else (),
        )

    def need_one_population(self) -> None:
        """Raise :class:`ValueError` where a transform would mix the rows of several populations."""
        if self.populations:
            raise ValueError(
                f"it takes the haplotypes of one population, found {len(self.populations)}, which it would mix up; "
                "leave it out (`encoding.sort` sorts within each population)"
            )

    def need_positions(self, *styles: str) -> None:
        """Raise :class:`ValueError` unless positions are written in one of these styles (default: in any)."""
        if self.positions == "none":
            raise ValueError("it needs positions: set encoding.positions")
        if styles and self.positions not in styles:
            raise ValueError(
                f"it needs positions that are {' or '.join(styles)}, found {self.positions}, which does not say where a window starts; "
                f"set encoding.positions: {styles[0]}, and put `{{name: reformat, to: {self.positions}}}` behind it"
            )

    def need_individuals(self) -> None:
        """Raise :class:`ValueError` if it is no longer known which haplotypes make up an individual."""
        if not self.individuals:
            raise ValueError(
                "it needs the haplotypes of each individual side by side: use `encoding.sort: none`, and the transform `sort` behind it"
            )

    def of_individuals(self) -> Form:
        """The form of batches whose rows are the individuals of this one, with frequencies of alleles in them."""
        return replace(
            self,
            num_haplotypes=self.num_haplotypes // self.ploidy,
            fewest_haplotypes=self.fewest_haplotypes // self.ploidy,
            ploidy=1,
            populations=tuple(count // self.ploidy for count in self.populations),
            frequencies=True,
        )

    def by_population(self, genotypes: Tensor) -> tuple[Tensor, ...]:
        """The rows of each population of genotypes of shape (batch, num_haplotypes, max_sites)."""
        return genotypes.split(self.populations, dim=1) if self.populations else (genotypes,)


@dataclass(frozen=True)
class Examples:
    """A batch on its way to a network."""

    genotypes: Tensor
    """Tensor of shape (batch, num_haplotypes, max_sites), dtype=float32: 0, 1, or −1 for missing; 0 under padding. Where the
    form has frequencies, anything from 0 to 1, or −1."""
    positions: Tensor | None
    """Tensor of shape (batch, max_sites), dtype=float32: in the style of the form; 0 under padding; None with ``none``."""
    mask: Tensor
    """Tensor of shape (batch, max_sites), dtype=bool: true for real sites, which are the first ones of each row."""
    targets: dict[str, Tensor] = field(default_factory=dict)
    """Tensors of shape (batch,), dtype=float64, in natural units, NaN where missing: those that a transform of the list moves."""

    @property
    def num_sites(self) -> Tensor:
        """Tensor of shape (batch,), dtype=int64: real sites of each example."""
        return self.mask.sum(dim=1)


class Transform:
    """One step between the encoded data and a network.

    A subclass defines ``Settings`` (its options in the config), :meth:`__call__`, and whatever of the rest differs for it.
    Its constructor raises :class:`ValueError` for batches that it cannot take.
    """

    class Settings(Section):
        """Options of the transform, beside its ``name``."""

    takes_frequencies: ClassVar[bool] = False
    """Whether it takes rows of individuals or populations as well, because it does not look at alleles."""

    def __init__(self, settings: Any, form: Form) -> None:
        if form.frequencies and not self.takes_frequencies:
            raise ValueError(
                "it takes haplotypes, found rows of individuals or populations; put it before genotypes, read_counts or pool"
            )
        self.settings = settings
        self.form = form

    @property
    def after(self) -> Form:
        """The batches that it gives."""
        return self.form

    @property
    def chance(self) -> str | None:
        """What of it is left to chance and what to write instead, where it can do nothing without; else None."""
        return None

    @property
    def moves(self) -> list[str]:
        """Names of the targets that it changes."""
        return []

    def __call__(self, examples: Examples, generator: Generator | None) -> Examples:
        """Transform a batch.

        Parameters
        ----------
        examples
            A batch of the form that the constructor was given; its tensors must not be changed in place.
        generator
            Where all chance comes from, on the device of the batch; None outside of training.
        """
        raise NotImplementedError


class View(Transform):
    """A transform that puts positions into the matrix; it comes last, one to a list, and the same in all lists.

    It is given alleles as ``encoding.values`` writes them and standardised positions.
    """

    takes_frequencies = True
    centred: ClassVar[bool] = True
    """Whether standardised positions have mean 0; else they keep their zero and have mean square 1."""
    extra_rows: ClassVar[int] = 0
    """Rows that it adds to the matrix."""

    def __init__(self, settings: Any, form: Form) -> None:
        form.need_positions()
        super().__init__(settings, form)

    @property
    def after(self) -> Form:
        return replace(
            self.form,
            num_haplotypes=self.form.num_haplotypes + self.extra_rows,
            fewest_haplotypes=self.form.fewest_haplotypes + self.extra_rows,
            positions="none",
            # A row of positions belongs to no population.
            populations=() if self.extra_rows else self.form.populations,
        )

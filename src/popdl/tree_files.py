"""Tree sequences written by other programs, as examples."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import tskit

from popdl import seeds
from popdl.errors import PopdlError
from popdl.simulators._base import Example

__all__ = ["load_trees", "trees_example"]


def load_trees(path: Path) -> tskit.TreeSequence:
    """Load a tree sequence, from `.trees`, or from `.tsz` where tszip is installed.

    Raises
    ------
    PopdlError
        If the file is not a whole tree sequence.
    """
    load = tskit.load
    if path.suffix == ".tsz":
        try:
            load = importlib.import_module("tszip").decompress
        except ImportError:
            raise PopdlError(
                f"{path}: compressed tree sequences need the package tszip; install it, or write .trees with `tsunzip`."
            ) from None
    try:
        return load(str(path))
    except FileNotFoundError:
        raise PopdlError(f"{path}: there is no such file; expected a tree sequence.") from None
    except Exception as error:  # tskit, kastore and zarr each raise their own
        raise PopdlError(f"{path}: not a whole tree sequence: {error}.") from None


def trees_example(
    trees: tskit.TreeSequence,
    *,
    num_haplotypes: int,
    sequence_length: float,
    mutation_rate: float | None,
    generator: np.random.Generator,
    where: str,
) -> Example:
    """The genotypes of a tree sequence.

    Parameters
    ----------
    trees
        Its samples are the haplotypes, in their order.
    num_haplotypes, sequence_length
        What the config says of every example.
    mutation_rate
        Per bp per generation; where there are no sites, mutations are added at this rate.
    generator
        From which these mutations come.
    where
        The file, for messages.

    Raises
    ------
    PopdlError
        If the number of samples or the length differ, lineages have not coalesced, or there are no sites and no rate.
    """
    if trees.num_samples != num_haplotypes:
        raise PopdlError(
            f"{where}: {trees.num_samples} samples, expected {num_haplotypes} (num_haplotypes); simplify() it to those you want."
        )
    if trees.sequence_length != sequence_length:
        raise PopdlError(
            f"{where}: {trees.sequence_length:g} bp, expected {sequence_length:g} (sequence_length); correct that key."
        )
    for tree in trees.trees():
        if tree.num_roots > 1:
            raise PopdlError(
                f"{where}: {tree.num_roots} lineages have not coalesced at {tree.interval.left:g} bp, so their differences are "
                "missing; recapitate the tree sequence first, e.g. with pyslim.recapitate()."
            )
    if trees.num_sites == 0:
        if mutation_rate is None:
            raise PopdlError(
                f"{where}: there are no sites; give the mutation_rate at which to add mutations (0 if none is meant)."
            )
        import msprime

        trees = msprime.sim_mutations(trees, rate=mutation_rate, random_seed=seeds.msprime_seed(generator))
    genotypes = trees.genotype_matrix()
    if genotypes.size and genotypes.max() > np.iinfo(np.int8).max:
        raise PopdlError(f"{where}: a site has {genotypes.max() + 1} alleles, expected at most 128.")
    return Example(genotypes.astype(np.int8), trees.sites_position.copy())

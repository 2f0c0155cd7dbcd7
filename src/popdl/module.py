"""The whole of what is trained: position scaling, a network's body, and the heads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from popdl.heads import Heads
from popdl.loader import Batch, OnDisk, PackedData, batches
from popdl.networks._base import InputShape, build
from popdl.transforms._base import Examples
from popdl.transforms._pipeline import Pipeline

__all__ = ["PopdlModule", "PositionScaling", "predict_outputs", "sites_dropped"]

ROWS_AT_ONCE = 1024
TRANSFORMED_AT_ONCE = 64
"""Fewer, where genotypes are unpacked too."""


@dataclass(frozen=True)
class PositionScaling:
    """Standardise positions; fitted to the real sites of the training split."""

    log1p: bool
    """Whether log(1 + x) comes first: distances between sites spread over orders of magnitude."""
    mean: float
    sd: float

    @classmethod
    def fit(
        cls,
        data: PackedData | OnDisk,
        rows: Tensor,
        *,
        transforms: Pipeline | None = None,
        generator: Generator | None = None,
    ) -> PositionScaling | None:
        """Fit to the real sites of these rows of the data; None where the encoding has no positions.

        Parameters
        ----------
        data, rows
            Encoded examples, and which of them.
        transforms
            What is done to them before a network sees them (default: nothing).
        generator
            Where the transforms take their chance from.
        """
        style = data.encoding["settings"]["positions"] if transforms is None else transforms.form.positions
        if style == "none":
            return None
        log1p = style == "distance"
        centred = transforms is None or transforms.view is None or transforms.view.centred
        count, total, squares = 0, 0.0, 0.0
        changed = transforms is not None and bool(transforms.steps)
        for part, chosen, _ in batches(data, rows, size=TRANSFORMED_AT_ONCE if changed else ROWS_AT_ONCE):
            if transforms is not None and changed:
                _, positions, mask = transforms.batch(part, chosen, generator=generator)
                assert positions is not None
            else:
                assert part.positions is not None
                positions = part.positions[chosen]
                mask = torch.arange(part.max_sites, device=part.device) < part.num_sites[chosen].unsqueeze(1)
            values = positions[mask].double()
            values = values.log1p() if log1p else values
            count += len(values)
            total += float(values.sum())
            squares += float((values**2).sum())
        mean = total / max(count, 1) if centred else 0.0
        variance = squares / max(count, 1) - mean**2
        return cls(log1p=log1p, mean=mean, sd=math.sqrt(variance) if variance > 1e-12 * mean**2 else 1.0)

    def __call__(self, positions: Tensor, mask: Tensor) -> Tensor:
        """Standardised positions, 0 under padding."""
        if self.log1p:
            positions = positions.log1p()
        return torch.where(mask, (positions - self.mean) / self.sd, 0.0)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class PopdlModule(nn.Module):
    """A network with its heads.

    Parameters
    ----------
    key, options
        The network, as in the config.
    shape
        Shape of one encoded example.
    targets
        Description of every target, as in ``targets.json``.
    position_scaling
        None where the encoding has no positions.
    transforms
        What is done to examples before they are predicted (default: nothing).
    """

    def __init__(
        self,
        key: str,
        options: Mapping[str, Any],
        *,
        shape: InputShape,
        targets: Mapping[str, Mapping[str, Any]],
        position_scaling: PositionScaling | None,
        transforms: Pipeline | None = None,
    ) -> None:
        super().__init__()
        self.transforms = transforms
        self.position_scaling = position_scaling
        self.body = build(key, options, shape)
        self.heads = Heads(self.body.num_features, targets)

    def forward(self, genotypes: Tensor, positions: Tensor | None, mask: Tensor) -> Tensor:
        """Compute the outputs of the heads, shape (batch, num_outputs), from a batch of :meth:`batch` or of training."""
        if positions is not None and self.position_scaling is not None:
            positions = self.position_scaling(positions, mask)
        if self.transforms is not None and self.transforms.view is not None:
            examples = self.transforms.view(Examples(genotypes, positions, mask), None)
            genotypes, positions = examples.genotypes, examples.positions
        return self.heads(self.body(genotypes, positions, mask))

    @property
    def has_transforms(self) -> bool:
        """Whether anything is done to examples before they are predicted."""
        return self.transforms is not None and bool(self.transforms.steps)

    def batch(self, data: PackedData, rows: Tensor) -> Batch:
        """Unpack these rows of the data as they are to be predicted."""
        return data.batch(rows) if self.transforms is None else self.transforms.batch(data, rows)


@torch.no_grad()
def predict_outputs(module: PopdlModule, data: PackedData | OnDisk, rows: Tensor, *, batch_size: int) -> Tensor:
    """Outputs of the heads for these rows of the data, in float32 on the CPU, in evaluation mode.

    A GPU computes in float32 as exactly as a CPU, without TF32, and is not waited for between batches.

    Returns
    -------
    Tensor of shape (num_rows, num_outputs)
    """
    module.eval()
    if not len(rows):  # not every layer of torch takes a batch of none
        return torch.empty(0, module.heads.num_outputs)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        outputs = [module(*module.batch(part, chosen)) for part, chosen, _ in batches(data, rows, size=batch_size)]
    return torch.cat(outputs).float().cpu()


@torch.no_grad()
def sites_dropped(module: PopdlModule, data: PackedData | OnDisk, rows: Tensor, *, batch_size: int) -> Tensor:
    """How many of their sites these rows of the data lose to the transforms before a prediction.

    Returns
    -------
    Tensor of shape (num_rows,), dtype=int64, on the CPU
    """
    counts = [
        part.num_sites[chosen] - module.batch(part, chosen).mask.sum(dim=1)
        for part, chosen, _ in batches(data, rows, size=batch_size)
        if len(chosen)
    ]
    return torch.cat([torch.empty(0, dtype=torch.int64), *(count.cpu().long() for count in counts)])

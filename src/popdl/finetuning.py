"""Starting a training from the weights of a trained model.

The body's weights and buffers are taken where name and shape agree; the standardisation of positions comes along, because
those weights were trained with it. If the whole body was taken, a target goes on with its outputs where name, task, scale
and period agree. The new training split has its own mean and standard deviation, so the rows of the last layer are rewritten for them:

    w' = w · sd / sd',   b' = (b · sd + mean − mean') / sd'

and the first prediction, in natural units, is that of the old model. A class goes on with its logit wherever one of the same
name is there. Outputs that are fresh start at 0, the mean of the training split: random weights on features that are long
trained would predict far from every truth. Everything else is fresh as in any training, and all of it is counted.

What the old model was trained on must not judge the new one: such a split is refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdl import plugins
from popdl.errors import PopdlError
from popdl.heads import output_columns
from popdl.model import read_weights
from popdl.module import PopdlModule, PositionScaling
from popdl.seen import Seen, refuse_seen

__all__ = ["Start"]

log = logging.getLogger("popdl")

BODY = "body."
WEIGHT, BIAS = "heads.linear.weight", "heads.linear.bias"


@dataclass(frozen=True)
class Start:
    """A trained model as the start of another training."""

    path: Path
    sha256: str
    card: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path, *, fingerprint: str) -> Start:
        """Read a model file.

        Raises
        ------
        PopdlError
            If it is no whole model file, or its network takes data of another encoding than this one.
        """
        card, tensors = read_weights(path)
        if card["fingerprint"] != fingerprint:
            raise PopdlError(
                f"training.initialise_from: {path} was trained with another encoding than this study has, so its weights mean "
                f"something else; copy the settings under `encoding` of `popdl card {path}`, with its numbers of haplotypes and sites."
            )
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest(), card, tensors)

    @property
    def seen(self) -> dict[str, Seen] | None:
        """What the model and those before it have seen, by split; None where a model of an older popdl does not say."""
        seen = self.card.get("seen")
        return seen and {name: Seen.from_json(seen[name], path=self.path) for name in ("train", "validation")}

    def judged_by(self, digests: np.ndarray, split: np.ndarray, *, comparable: bool) -> str:
        """Whether the model has seen examples of the splits that judge, in a word for the card; if it has, it is refused.

        Parameters
        ----------
        digests, split
            As :func:`popdl.seen.refuse_seen` takes them.
        comparable
            Whether the same data would have the same digests here.
        """
        seen = self.seen
        if seen is None or not comparable:
            log.warning(
                "training.initialise_from: %s: it is not known whether this model was trained on examples of the test split, as %s.",
                self.path,
                "it was made by an older popdl"
                if seen is None
                else "`crop: random` with another seed cuts the same data elsewhere",
            )
            return "not known"
        refuse_seen(seen, digests, split, path=self.path, card=self.card)
        return "unseen"

    def positions_instead_of(self, fitted: PositionScaling | None) -> PositionScaling | None:
        """The old model's standardisation of positions, which must be of the same kind as the one that was fitted now."""
        old = None if self.card["positions"] is None else PositionScaling(**self.card["positions"])
        if (old and old.log1p) != (fitted and fitted.log1p):
            raise PopdlError(
                f"training.initialise_from: the transforms of {self.path} leave positions in another style than those of this study; "
                f"copy what stands under `transforms` of `popdl card {self.path} --json`."
            )
        return old

    def give(self, module: PopdlModule, *, key: str, network: str) -> dict[str, Any]:
        """Put the weights that agree into a module.

        Parameters
        ----------
        module
            The module, with weights of its own.
        key, network
            Its network: the key in the config, and the name.

        Returns
        -------
        dict
            For the card: the source, which tensors and targets were taken, and which are fresh.

        Raises
        ------
        PopdlError
            If it is another of popdl's networks, or no weight of the body agrees.
        """
        state = module.state_dict()
        body = [name for name in state if name.startswith(BODY)]
        taken = [name for name in body if name in self.tensors and self.tensors[name].shape == state[name].shape]
        old = self.card["network"]
        # Two networks may have a few shapes in common, which would be no more than chance.
        other = network != old["name"] and not (plugins.is_file(network) or plugins.is_file(old["name"]))
        if other or not taken:
            raise PopdlError(
                f"training.initialise_from: {self.path} holds the network {old['name']} with the options {old['options']}, "
                f"whose weights do not fit networks.{key}; give that network the same options, or start another from the file: "
                "`initialise_from: {<network>: <file>}`."
            )
        with torch.no_grad():
            for name in taken:
                state[name].copy_(self.tensors[name])
            targets = self._give_heads(state, module.heads.targets, whole=len(taken) == len(body))
        fresh = [name for name in body if name not in taken]
        numbers = [sum(state[name].numel() for name in names) for names in (taken, body)]
        log.info(
            "%s: %d of %d numbers of the body taken (%d of %d tensors); targets that go on: %s; fresh: %s.",
            self.path,
            *numbers,
            len(taken),
            len(body),
            ", ".join(name for name, rows in targets.items() if rows == "taken" or isinstance(rows, list)) or "none",
            ", ".join([*fresh, *(name for name, rows in targets.items() if rows == "fresh")]) or "nothing",
        )
        return {
            "sha256": self.sha256,
            "study": self.card.get("study"),
            "network": self.card["network"]["name"],
            "num_body": numbers[1],
            "num_taken": numbers[0],
            "fresh": fresh,
            "targets": targets,
        }

    def _give_heads(
        self, state: Mapping[str, Tensor], targets: Mapping[str, Mapping[str, Any]], *, whole: bool
    ) -> dict[str, Any]:
        """Rows of the last layer, if the whole body was taken; returns for each target ``taken`` or ``fresh``, or its taken classes."""
        old_columns, columns = output_columns(self.card["targets"]), output_columns(targets)
        found: dict[str, Any] = dict.fromkeys(targets, "fresh")
        state[WEIGHT].zero_()
        state[BIAS].zero_()
        if not whole or state[WEIGHT].shape[1] != self.tensors[WEIGHT].shape[1]:
            return found
        for name, target in targets.items():
            old = self.card["targets"].get(name)
            if old is None or any(old.get(key) != target.get(key) for key in ("task", "scale", "circular")):
                continue
            row, old_row = columns[name].start, old_columns[name].start
            if target["task"] == "regression":
                state[WEIGHT][row] = self.tensors[WEIGHT][old_row] * (old["sd"] / target["sd"])
                bias = float(self.tensors[BIAS][old_row])
                state[BIAS][row] = (bias * old["sd"] + old["mean"] - target["mean"]) / target["sd"]
                found[name] = "taken"
                continue
            common = [label for label in target["classes"] if label in old["classes"]]
            for label in common:
                to, source = row + target["classes"].index(label), old_row + old["classes"].index(label)
                state[WEIGHT][to] = self.tensors[WEIGHT][source]
                state[BIAS][to] = self.tensors[BIAS][source]
            if common:
                found[name] = "taken" if common == target["classes"] == old["classes"] else common
        return found

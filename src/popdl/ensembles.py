"""Ensembles: the replicates of one network predict together, with intervals of their own.

An ensemble is a small JSON file beside the model files that are its members. It adds what no member knows: how wide the
intervals around their average must be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from popdl import plugins
from popdl.config.base import Section, validate
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.model import Model, load_model
from popdl.plugins import Trust

__all__ = ["FORMAT_VERSION", "HalfWidths", "load_models", "write_ensemble"]

FORMAT_VERSION = 1
SUFFIX = ".json"
HalfWidths = Mapping[str, float | None]
"""Half of the width of each target's intervals on the target's scale; None where there is no validation truth."""


class _Member(Section):
    file: str = Field(pattern=r"^[^/\\]+$")
    weights_sha256: str


class _Intervals(Section):
    coverage: float = Field(gt=0, lt=1)
    half_widths: dict[str, float | None]


class _Ensemble(Section):
    format_version: int = Field(ge=1, le=FORMAT_VERSION)
    members: list[_Member] = Field(min_length=2)
    intervals: _Intervals


def write_ensemble(path: Path, models: Sequence[Model], half_widths: HalfWidths) -> None:
    """Write an ensemble whole.

    Parameters
    ----------
    path
        The ``.json`` file, in the folder of the members.
    models
        The members; they were trained with the same settings.
    half_widths
        Of the intervals around the members' average.
    """
    values = {
        "format_version": FORMAT_VERSION,
        "members": [{"file": model.path.name, "weights_sha256": model.card["weights_sha256"]} for model in models],
        "intervals": {"coverage": models[0].card["intervals"]["coverage"], "half_widths": dict(half_widths)},
    }
    validate(_Ensemble, values, where=str(path))
    write_text(path, json.dumps(values, indent=1) + "\n")


def load_models(paths: Sequence[Path], *, trust: Trust = plugins.in_project) -> tuple[list[Model], HalfWidths | None]:
    """Load what predicts: model files, or one ensemble.

    Parameters
    ----------
    paths
        Model files, or one ensemble.
    trust
        As in :func:`popdl.model.load_model`.

    Returns
    -------
    models
        All models whose predictions are averaged.
    half_widths
        Of an ensemble's intervals; None where each model brings its own.

    Raises
    ------
    PopdlError
        If a file is no model, or an ensemble's members are not those that it was made of.
    """
    ensembles = [path for path in paths if path.suffix == SUFFIX]
    if not ensembles:
        return [load_model(path, trust=trust) for path in paths], None
    if len(paths) > 1:
        raise PopdlError(f"{ensembles[0]}: an ensemble predicts alone; give it and no other model.")
    (path,) = ensembles
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PopdlError(f"{path}: the ensemble cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise PopdlError(f"{path}: expected an ensemble of popdl (JSON), found something else.") from None
    ensemble = validate(_Ensemble, values, where=f"{path} (expected an ensemble of popdl)")
    models = [load_model(path.parent / member.file, trust=trust) for member in ensemble.members]
    for model, member in zip(models, ensemble.members, strict=True):
        if model.card["weights_sha256"] != member.weights_sha256:
            raise PopdlError(
                f"{model.path}: this is not the model that the ensemble {path} was made of; copy all of its folder, or evaluate anew."
            )
    return models, ensemble.intervals.half_widths

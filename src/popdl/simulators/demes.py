"""Any demographic model that is written in demes YAML."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import demes

from popdl.simulators._graph import GraphSimulator

__all__ = ["Demes"]


class Demes(GraphSimulator):
    """The model in a demes file; sizes count individuals, times are in the time units of the file."""

    model: Path
    """A demes YAML file."""

    def input_files(self) -> list[Path]:
        return [*super().input_files(), self.model]

    @cached_property
    def model_data(self) -> dict[str, Any]:
        try:
            demes.load(self.model)
            return dict(demes.load_asdict(self.model))
        except OSError as error:
            raise ValueError(f"model: cannot read {self.model}: {error.strerror}; expected a demes YAML file") from None
        except Exception as error:  # the YAML parser and demes raise many kinds
            raise ValueError(f"model: {self.model} is not a valid demes model: {error}") from None

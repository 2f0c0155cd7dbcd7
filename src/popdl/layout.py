"""Where the results of a study lie: the one place in popdl that knows (the Snakefile says the same to Snakemake)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from popdl.errors import PopdlError

__all__ = ["ENSEMBLE", "Results", "baseline_name", "shards_beside"]

ENSEMBLE = "ensemble"
"""In names such as ``exchangeable/ensemble``: what stands where others have the number of the replicate."""


def baseline_name(name: str) -> str:
    """What the files of a baseline are called: its name; for ``path/to/file.py:ClassName``, which is no name of a file, ``file.ClassName``."""
    path, colon, attribute = name.rpartition(":")
    return f"{Path(path).stem}.{attribute}" if colon else name


def shards_beside(index: Path, number: int) -> list[Path]:
    """The first so many shards of the store that an index lists; one file is all that Snakemake then has to watch.

    Raises
    ------
    PopdlError
        If a shard is gone: where the index is still there, Snakemake does not look for it.
    """
    shards = [index.parent / f"shard_{shard}" for shard in range(number)]
    if gone := [shard for shard in shards if not shard.exists()]:
        raise PopdlError(
            f"{gone[0]}: {len(gone)} of {number} shards are gone; remove {index} and run Snakemake again, which makes them and the index anew."
        )
    return shards


@dataclass(frozen=True)
class Results:
    """The folder of a study's results."""

    folder: Path
    """``results/<study>``."""

    def simulations(self, shard: int) -> Path:
        return self.folder / "simulations.zarr" / f"shard_{shard}"

    @property
    def survey(self) -> Path:
        """What an import found when it looked at all of its data."""
        return self.folder / "import.json"

    def dataset(self, shard: int) -> Path:
        return self.folder / "dataset.zarr" / f"shard_{shard}"

    def model(self, network: str) -> Path:
        """``network`` is the name of one training, e.g. ``exchangeable/0``."""
        return self.folder / "models" / f"{network}.safetensors"

    def trial(self, key: str, number: int) -> Path:
        """The folder of one trial of a search."""
        return self.folder / "search" / key / str(number)

    def choice(self, key: str) -> Path:
        """The trials of a network, and which of them was chosen."""
        return self.folder / "search" / f"{key}.json"

    def variant(self, number: int) -> Results:
        """The encoded data of one kind, where a search chooses between several, laid out as that of a study."""
        return Results(self.folder / "variants" / str(number))

    def origin(self, number: int) -> Results:
        """The raw data behind one or more of these kinds."""
        return Results(self.folder / "variants" / "simulations" / str(number))

    @property
    def chosen_data(self) -> Path:
        """Which of the kinds of data a search has chosen; the study's own data are then those."""
        return self.folder / "variants" / "chosen.json"

    @property
    def search_table(self) -> Path:
        return self.folder / "search.tsv"

    def ensemble(self, key: str) -> Path:
        """The replicates of one network together."""
        return self.folder / "models" / key / f"{ENSEMBLE}.json"

    def history(self, network: str) -> Path:
        return self.folder / "models" / f"{network}.history.csv"

    def checkpoint(self, network: str) -> Path:
        """A folder that is there while a training runs, or after it was killed."""
        model = self.model(network)
        return model.with_name(f".{model.stem}.checkpoint")

    def tensorboard(self, network: str) -> Path:
        return self.folder / "tensorboard" / network

    def test_predictions(self, network: str) -> Path:
        return self.folder / "predictions" / f"{network}.tsv"

    def baseline(self, name: str) -> Path:
        return self.folder / "baselines" / f"{baseline_name(name)}.tsv"

    def application(self, name: str) -> Path:
        """The folder of one application."""
        return self.folder / "applications" / name

    @property
    def splits(self) -> Path:
        return self.folder / "splits.tsv"

    @property
    def targets(self) -> Path:
        return self.folder / "targets.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def metrics_table(self) -> Path:
        return self.folder / "metrics.tsv"

    @property
    def shared_model(self) -> Path:
        """The best network with its test metrics: the file to give to others."""
        return self.folder / "model.safetensors"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def plan(self) -> Path:
        """What the study will cost."""
        return self.folder / "plan.json"

    @property
    def dry_run(self) -> Path:
        """What a dry run of the study printed."""
        return self.folder / "dry_run.txt"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

"""The whole config of a study, and the checks that cross sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from popdl import plugins
from popdl.config.application import Application, application_problems
from popdl.config.base import Section, explain, refusal, suggestion, validate
from popdl.config.encoding import Encoding
from popdl.config.published import Published, published_problems
from popdl.config.reading import INHERITS, NULL_IS_A_VALUE, numbers_from_strings, read_config
from popdl.config.scan import Scan, scan_problems
from popdl.config.search import Search
from popdl.config.training import Evaluation, Splits, Target, Training
from popdl.config.transforms import Transforms
from popdl.errors import PopdlError
from popdl.files import write_text
from popdl.formats._base import Importer
from popdl.layout import baseline_name
from popdl.simulators._base import Simulator
from popdl.statistics import _base as statistics
from popdl.statistics import chosen as chosen_statistics
from popdl.statistics import names as statistics_names

__all__ = [
    "Source",
    "Study",
    "build_study",
    "import_section",
    "load_study",
    "simulation_section",
    "source_section",
    "study_text",
    "study_values",
    "write_study",
]

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
Name = Annotated[str, Field(pattern=NAME)]

ABOUT = ("authors", "licence", "citation")
"""Keys that are written into models as they are."""
ONE_ORIGIN = "give exactly one of the sections simulation and import"
Part = TypeVar("Part", Simulator, Importer)
Source = Simulator | Importer
"""Where the examples of a study come from: what comes after does not ask which of the two it is."""


class Study(Section):
    """A study: a prior, a question, the networks that learn to answer it, and the genomes that they are asked about."""

    model_config = ConfigDict(serialize_by_alias=True)

    inherits: str | None = None
    """Another config, its path seen from this file: all its keys but `study` hold here too, where this file does not change them."""
    study: Name
    """Name of the study; its results are in `results/<study>/`."""
    description: str = ""
    """The question in a sentence or two; the report opens with it."""
    remark: str = ""
    """What must be known to judge the outcome, e.g. that baselines read more of the data than networks; shown beside the verdict."""
    authors: list[str] = []
    """Who made the study; written into its models."""
    licence: str | None = None
    """Under which terms others may use its models, e.g. `CC-BY-4.0`; written into them."""
    citation: str | None = None
    """What to cite when its models are used; written into them."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Every random number of the study derives from this one."""
    simulation: SerializeAsAny[Simulator] | None = None
    """What is simulated, and how often."""
    import_: SerializeAsAny[Importer] | None = Field(default=None, alias="import")
    """Instead of `simulation`: labelled data of your own."""
    targets: dict[str, Target] = Field(min_length=1)
    """Which of the parameters are predicted."""
    encoding: Encoding = Encoding()
    """How genotypes become arrays."""
    statistics: list[str | dict[str, Any]] = []
    """Summary statistics beside the standard ones, for the baselines and the comparison with real genomes: names of groups, or `{name: …, option: …}`."""
    splits: Splits = Splits()
    """Which scenarios train, validate and test."""
    transforms: Transforms = Transforms()
    """What is done to batches on their way to the networks."""
    networks: dict[Name, dict[str, Any]] = Field(min_length=1)
    """The networks that are trained, each with its options; `name:` tells which network it is where the key does not."""
    training: Training = Training()
    """How they are trained."""
    search: Search | None = None
    """Which settings are tried before networks are trained."""
    baselines: list[str] = ["prior_mean", "ridge_sfs", "boosted_trees"]
    """Classical methods that are fitted to the same splits."""
    baseline_statistics: list[str] | None = Field(default=None, min_length=1)
    """The statistics that baselines read: names, or how names begin up to a `_`, so that `r2` stands for all of `r2_…` (null: all). For a fair comparison where networks are shown less than the genotypes that statistics are computed from, such as reads."""
    evaluation: Evaluation = Evaluation()
    """How predictions are judged."""
    applications: dict[Name, Application] = {}
    """The genomes that the trained networks are applied to."""
    scans: dict[Name, Scan] = {}
    """Figures in which several applications are compared along the genome."""
    published: list[Published] = []
    """What others have reported on the same question, shown beside the study's own figures."""

    @model_validator(mode="after")
    def _check(self) -> Study:
        if (self.simulation is None) == (self.import_ is None):
            raise ValueError(ONE_ORIGIN)
        problems = [*self._target_problems(), *self._split_problems()]
        if self.search is not None:
            problems += self.search.problems(networks=self.networks, source=(self.section, type(self.source)))
        if self.training.data == "on_the_fly" and self.simulation is None:
            problems.append("training.data: imported data cannot be simulated on the fly; use `data: dataset`")
        if isinstance(self.training.initialise_from, dict):
            problems += [
                f"training.initialise_from: {key!r} is none of the networks; {suggestion(key, self.networks)}"
                for key in self.training.initialise_from
                if key not in self.networks
            ]
        for name in self.baselines:
            if not plugins.is_file(name) and name not in plugins.known("baselines"):
                problems.append(f"baselines: {name!r} is not known; {suggestion(name, plugins.known('baselines'))}")
        files = [baseline_name(name) for name in self.baselines]
        if twice := [name for name in files if files.count(name) > 1]:
            problems.append(f"baselines: two of them would write the file {twice[0]}.tsv; leave one out, or rename it")
        problems += [*self._statistics_problems(), *self._baseline_statistics_problems()]
        problems += published_problems(
            self.published, targets=self.targets, networks=self.networks, baselines=self.baselines
        )
        for name, application in self.applications.items():
            problems += [f"applications.{name}.{problem}" for problem in application_problems(application, self)]
        problems += scan_problems(
            self.scans, applications=self.applications, statistics=self._statistics_known() if self.scans else None
        )
        if self.encoding.crop_length is not None and self.encoding.crop_length > self.source.sequence_length:
            problems.append(
                f"encoding.crop_length: {self.encoding.crop_length:g} bp is longer than {self.section}.sequence_length ({self.source.sequence_length:g})"
            )
        if self.encoding.phase == "ignore" and self.source.ploidy != 2:
            problems.append(f"encoding.phase: `ignore` needs {self.section}.ploidy 2, found {self.source.ploidy}")
        if self.import_ is not None and not self.import_.phased and self.encoding.phase != "ignore":
            problems.append("encoding.phase: the imported genotypes are not phased; set `phase: ignore`")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def section(self) -> str:
        """The key of the section that examples come from."""
        return "import" if self.simulation is None else "simulation"

    @property
    def source(self) -> Source:
        """Where the examples come from."""
        source = self.import_ if self.simulation is None else self.simulation
        assert source is not None
        return source

    @property
    def about(self) -> dict[str, Any]:
        """What models of the study say of it."""
        given = {key: value for key in ABOUT if (value := getattr(self, key))}
        if self.simulation is not None:
            return {**given, "simulator": self.simulation.simulator}
        assert self.import_ is not None
        return {**given, "format": self.import_.format}

    def _statistics_problems(self) -> list[str]:
        problems = []
        for entry in self.statistics:
            try:
                group = statistics.build(statistics.describe(entry))
            except PopdlError as error:
                problems.append(str(error))
                continue
            name = entry if isinstance(entry, str) else entry["name"]
            problems += [f"statistics.{name}.{problem}" for problem in group.problems(self)]
        return problems

    def _baseline_statistics_problems(self) -> list[str]:
        known = None if self.baseline_statistics is None else self._statistics_known()
        if self.baseline_statistics is None or known is None:
            return []
        try:
            chosen_statistics(known, self.baseline_statistics)
        except PopdlError as error:
            return [f"baseline_statistics: {error}"]
        return []

    def _statistics_known(self) -> list[str] | None:
        """Names of the statistics of every window; None if `statistics` is not valid."""
        try:
            groups = [statistics.build(statistics.describe(entry)) for entry in self.statistics]
            derived = self.encoding.alleles == "derived"
            return statistics_names(self.source.total_haplotypes, derived=derived, groups=groups)
        except PopdlError:
            return None

    def _target_problems(self) -> list[str]:
        problems = []
        names = self.source.parameter_names
        producer = self.simulation.simulator if self.simulation is not None else "import"
        for name, target in self.targets.items():
            if name not in names:
                problems.append(f"targets.{name}: {producer} produces no such parameter; {suggestion(name, names)}")
                continue
            prior = self.source.priors.get(name)
            if prior is not None and not prior.is_random:
                problems.append(f"targets.{name}: this parameter is fixed, there is nothing to predict")
            elif target.task == "classification" and (prior is None or not prior.classes):
                problems.append(f"targets.{name}: classification needs a `choice` prior with the classes")
            elif (
                target.task == "regression"
                and prior is not None
                and any(isinstance(value, str) for value in prior.arguments)
            ):
                problems.append(f"targets.{name}: its prior is a choice among words; set `task: classification`")
            elif isinstance(target.class_weights, dict) and prior and set(target.class_weights) != set(prior.classes):
                problems.append(
                    f"targets.{name}.class_weights: expected a weight for each of {', '.join(prior.classes)}, "
                    f"found {', '.join(target.class_weights)}"
                )
            elif (
                target.scale == "log" and prior is not None and prior.lower_bound is not None and prior.lower_bound <= 0
            ):
                problems.append(
                    f"targets.{name}: scale log needs positive values, but the prior reaches down to {prior.lower_bound:g}"
                )
            elif (
                (target.scale == "logit" or target.circular is not None)
                and prior is not None
                and prior.lower_bound is not None
                and prior.lower_bound < 0
            ):
                end = 1.0 if target.circular is None else target.circular
                problems.append(
                    f"targets.{name}: values must lie between 0 and {end:g}, but the prior reaches down to {prior.lower_bound:g}"
                )
        return problems

    def _split_problems(self) -> list[str]:
        splits, problems = self.splits, []
        if splits.column is None:
            highest = self.source.num_scenarios - 1
            for name in splits.lists:
                last = max(last for _, last in splits.ranges(name))
                if last > highest:
                    problems.append(f"splits.{name}: there is no scenario {last}; this study has 0 to {highest}")
        elif splits.file is None:
            names = self.source.parameter_names
            prior = self.source.priors.get(splits.column)
            if splits.column not in names:
                hint = "; name a column of import.table under import.parameters, with `classes` if it holds words"
                problems.append(
                    f"splits.column: there is no parameter {splits.column!r}; {suggestion(splits.column, names)}"
                    + (hint if self.import_ is not None else "")
                )
            elif prior is not None and not prior.classes:
                problems.append(
                    f"splits.column: the prior of {splits.column!r} is no `choice`, so it has no values to name"
                )
            elif prior is not None:
                problems += [
                    f"splits.{name}: {splits.column!r} has no value {word!r}; {suggestion(word, prior.classes)}"
                    for name in splits.lists
                    for word in splits.words(name)
                    if word not in prior.classes
                ]
        return problems


def simulation_section(values: Any) -> Simulator:
    """The `simulation:` section as an instance of the simulator that it names."""
    return validate(_simulator(values), values, where="simulation")


def import_section(values: Any) -> Importer:
    """The `import:` section as an instance of the importer of its format."""
    return validate(_importer(values), values, where="import")


def source_section(key: str, values: Any) -> Source:
    """The `simulation:` or the `import:` section."""
    return import_section(values) if key == "import" else simulation_section(values)


def _simulator(values: Any) -> type[Simulator]:
    return _part(values, section="simulation", key="simulator", kind="simulators", base=Simulator)


def _importer(values: Any) -> type[Importer]:
    return _part(values, section="import", key="format", kind="formats", base=Importer)


def _part(values: Any, *, section: str, key: str, kind: str, base: type[Part]) -> type[Part]:
    if not isinstance(values, dict) or not isinstance(values.get(key), str):
        raise PopdlError(f"{section}.{key}: this key is required; known: {', '.join(plugins.known(kind))}.")
    return plugins.load(kind, values[key], base)


def build_study(values: Any, *, where: str = "config") -> Study:
    """Build a study from plain values, or raise a :class:`PopdlError` that lists everything wrong with them."""
    if not isinstance(values, dict):
        raise PopdlError(f"{where}: expected a mapping of sections, found {type(values).__name__}.")
    if values.get(INHERITS) is not None:
        raise PopdlError(f"{where}: only a config in a file can inherit; give the file itself, or all of its keys.")
    values = numbers_from_strings(values)
    problems: list[str] = []
    if values.get("simulation") is not None and values.get("import") is not None:
        raise PopdlError(refusal(where, [ONE_ORIGIN]))
    key = "import" if values.get("import") is not None else "simulation"
    part = _importer if key == "import" else _simulator
    source: Any = None
    try:
        section = part(values.get(key))
        source = section.model_validate(values[key])
    except PopdlError as error:
        problems.append(str(error))
    except ValidationError as error:
        problems += explain(error, section=section, prefix=key)
    try:
        study = Study.model_validate({**values, key: source})
    except ValidationError as error:
        problems += [
            line
            for line in explain(error, section=Study)
            if not (source is None and line.startswith((f"{key}:", ONE_ORIGIN)))
        ]
    if problems:
        raise PopdlError(refusal(where, problems))
    return study


def load_study(path: str | Path) -> Study:
    """Read a study from a YAML file, and from those that it inherits from."""
    return build_study(read_config(path), where=str(path))


def study_values(study: Study) -> dict[str, Any]:
    """A study as plain values with every default spelled out: :func:`build_study` makes it again of them."""
    values: dict[str, Any] = _given(study.model_dump(mode="json"))
    return values


def study_text(study: Study) -> str:
    """:func:`study_values` as YAML; running it repeats the study."""
    return yaml.safe_dump(study_values(study), sort_keys=False, allow_unicode=True, width=120)


def _given(value: Any) -> Any:
    """Leave out keys whose null says that they are not given."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None or key in NULL_IS_A_VALUE}
    return [_given(item) for item in value] if isinstance(value, list) else value


def write_study(study: Study, path: Path) -> None:
    """Write :func:`study_text` to a file."""
    write_text(path, study_text(study))

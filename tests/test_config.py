"""The config: what is refused, with which words, and what survives a round trip."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from pydantic import ValidationError as PydanticError
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate as snakemake_validate

from popdl.config import reference, schema
from popdl.config.application import parse_region
from popdl.config.base import suggestion
from popdl.config.reading import MAX_VALUES, in_any_order, numbers_from_strings, read_config, read_yaml
from popdl.config.study import Study, build_study, load_study, write_study
from popdl.errors import PopdlError

CONFIGS = sorted((schema.REPOSITORY / "config").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema.study_schema())


@pytest.fixture
def values() -> dict[str, Any]:
    """A small valid config, free to be spoilt."""
    return {
        "study": "small",
        "simulation": {
            "simulator": "size_change",
            "num_haplotypes": 12,
            "sequence_length": 5.0e4,
            "mutation_rate": 2e-8,
            "recombination_rate": 1e-8,
            "parameters": {
                "recent_size": {"loguniform": [5000, 50000]},
                "event_size": {"loguniform": [0.1, 10], "times": "recent_size", "within": [5000, 50000]},
                "event_time": {"choice": [100, 2000]},
            },
            "num_scenarios": 10,
        },
        "targets": {"recent_size": {"scale": "log"}, "event_time": {"task": "classification"}},
        "encoding": {"max_sites": 64},
        "networks": {"exchangeable": {}, "cnn": {"name": "flagel", "filters": [16, 16]}},
        "applications": {
            "genome": {
                "simulate": {
                    "parameters": {"recent_size": 20000, "event_size": 8000, "event_time": 2000},
                    "sequence_length": 3e5,
                    "num_individuals": 10,
                },
                "samples": {"names": ["ind_0", "ind_2", "ind_4", "ind_5", "ind_7", "ind_9"]},
                "windows": {"size": 5e4},
            }
        },
    }


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with one key, written with dots, replaced."""
    changed = copy.deepcopy(values)
    *path, last = key.split(".")
    section = changed
    for part in path:
        section = section.setdefault(part, {})
    section[last] = value
    return changed


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# What pydantic refuses, and what it says.


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sede", 1, r"sede: unknown key; did you mean 'seed'\? known: applications, "),
        ("training.batchsize", 1, r"training\.batchsize: unknown key; did you mean 'batch_size'\?"),
        ("targets.recent_size.scales", "log", r"targets\.recent_size\.scales: unknown key; did you mean 'scale'\?"),
        (
            "applications.genome.windows.sise",
            1,
            r"applications\.genome\.windows\.sise: unknown key; did you mean 'size'\?",
        ),
        (
            "simulation.recombination_rate",
            {"map": "a.txt", "bild": "GRCh37"},
            r"simulation\.recombination_rate\.bild: unknown key; did you mean 'build'\?",
        ),
        ("simulation.simulator", "size_chnge", r"did you mean 'size_change'\?"),
        ("simulation.simulator", None, r"simulation\.simulator: this key is required; known: .*size_change"),
        ("simulation", [], r"simulation\.simulator: this key is required"),
        ("baselines", ["ridge_sf"], r"baselines: 'ridge_sf' is not known; did you mean 'ridge_sfs'\?"),
        (
            "baseline_statistics",
            ["pi", "read"],
            r"baseline_statistics: no statistic is called 'read' or read_…; known: .*, pi, r2, segregating_sites, sfs, ",
        ),
        ("baseline_statistics", [], r"baseline_statistics: .*at least 1"),
        ("study", "", r"study: .*matches the pattern"),
        ("study", "../elsewhere", r"study: .*matches the pattern.*\.\./elsewhere"),
        ("networks", {"a/b": {"name": "flagel"}}, r"networks\.a/b.*matches the pattern"),
        ("networks", {}, r"networks: .*at least 1"),
        ("training.batch_size", "many", r"training\.batch_size: expected a whole number, found 'many'"),
        ("training.batch_size", 0, r"training\.batch_size: expected a number of at least 1, found 0"),
        ("training.batch_size", True, r"training\.batch_size: expected no truth value, found true"),
        ("simulation.sequence_length", float("inf"), r"simulation\.sequence_length: .*finite number"),
        ("simulation.num_haplotypes", "many", r"simulation\.num_haplotypes: expected a whole number"),
        ("simulation.num_haplotypes", 11, r"positive multiple of the ploidy \(2\), found 11"),
        ("simulation.parameters.event_time", {"uniform": [4000, 80]}, r"low must be below high, found \[4000, 80\]"),
        ("simulation.parameters.event_time", {"loguniform": [0, 80]}, r"low must be positive, found 0"),
        ("simulation.parameters.event_time", {"unifrom": [0, 80]}, r"'unifrom' is not a distribution"),
        ("simulation.parameters.event_time", "uniform(1, 2)", r"expected a number or a prior"),
        ("simulation.parameters.event_tme", 3, r"unknown \['event_tme'\]"),
        (
            "targets",
            {"recent_sise": {}},
            r"targets\.recent_sise: size_change produces no such .*did you mean 'recent_size'",
        ),
        ("targets.mutation_rate", {}, r"targets\.mutation_rate: this parameter is fixed"),
        ("targets.recent_size.task", "classification", r"needs a `choice` prior|has no scale"),
        ("applications.genome.windows.size", 4e4, r"windows\.size: 40000 bp, but the networks are trained on 50000 bp"),
        ("applications.genome.windows", {"sites": 32}, r"windows\.sites: 32 is fewer than encoding\.max_sites \(64\)"),
        ("applications.genome.windows", {"size": 5e4, "sites": 70}, r"give exactly one of size \(bp\) and sites"),
        ("applications.genome.vcf", "a.vcf", r"give exactly one of vcf and simulate"),
        ("applications.genome.regions", ["20:9-1"], r"1 ≤ start ≤ end, found '20:9-1'"),
        ("applications.genome.simulate.parameters", {"recent_size": 1}, r"event_time is missing"),
        ("applications.genome.samples.number", 5, r"samples: 5 individuals of ploidy 2 are 10 haplotypes, .* on 12"),
        ("applications.genome.samples", {"names": ["a", "b"]}, r"samples: 2 individuals of ploidy 2 are 4 haplotypes"),
        ("applications.genome.samples", None, r"samples: 10 individuals of ploidy 2 are 20 haplotypes"),
        ("applications.genome.ploidy", 1, r"ploidy: 1, but simulation\.ploidy is 2"),
        ("encoding.crop_length", 6e4, r"encoding\.crop_length: 60000 bp is longer than simulation\.sequence_length"),
        ("encoding.crop", "center", r"encoding\.crop: .*'centre'.*found 'center'"),
        ("splits", {"train": 0.9}, r"must add up to at most 1, found 1\.2"),
    ],
)
def test_refused(values: dict[str, Any], key: str, value: Any, message: str) -> None:
    with pytest.raises(PopdlError, match=message) as refusal:
        build_study(put(values, key, value), where="small.yaml")
    assert str(refusal.value).startswith("small.yaml: the config is not valid:")


def test_required_keys_are_named(values: dict[str, Any]) -> None:
    del values["targets"]
    with pytest.raises(PopdlError, match="targets: this key is required"):
        build_study(values)


def test_everything_wrong_is_said_at_once(values: dict[str, Any]) -> None:
    spoilt = put(put(put(values, "sede", 1), "training.patience", 0), "simulation.shard_size", -1)
    with pytest.raises(PopdlError) as refusal:
        build_study(spoilt)
    for key in ("sede", "training.patience", "simulation.shard_size"):
        assert f"  {key}: " in str(refusal.value)


@pytest.mark.parametrize("nonsense", [None, 3, "text", [1, 2]])
def test_not_a_mapping(nonsense: Any) -> None:
    with pytest.raises(PopdlError, match=f"expected a mapping of sections, found {type(nonsense).__name__}"):
        build_study(nonsense)


# Reading YAML.


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-8", 1e-8), ("1e6", 1e6), ("1E6", 1e6), ("-2e+3", -2e3), (".5e2", 50.0), ("1.e2", 100.0), ("1_000e3", 1e6)],
)
def test_numbers_that_yaml_reads_as_strings(tmp_path: Path, text: str, number: float) -> None:
    assert read_yaml(write(tmp_path, f"a: {{b: [{text}]}}\n")) == {"a": {"b": [number]}}


@pytest.mark.parametrize("text", ["1e", "e5", "size_1e5", "1e5x", "0x1e5", "20:1e5", "1.0.0e1"])
def test_other_strings_stay(text: str) -> None:
    assert numbers_from_strings(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nstudy: a\nseed: 2\n", r"study\.yaml, line 3: .*'seed' is written twice, first in line 1"),
        ("a: {b: 1, b: 2}\n", r"line 1: .*'b' is written twice"),
        ("- 1\n- 2\n", "expected a mapping of sections, found list"),
        ("", "expected a mapping of sections, found NoneType"),
        ("a: [1, 2\n", r"line 2: not valid YAML"),
        ("a: 1\n\tb: 2\n", r"line 2: not valid YAML"),
        ("? [1, 2]\n: 3\n", "cannot be a key"),
        ("a: !!python/object/apply:os.system [echo]\n", "could not determine a constructor"),
        ("day: 2026-13-45\n", "not valid YAML"),
        ("a: &a [1, *a]\n", "contains itself"),
        ("a: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deeply"),
    ],
)
def test_unreadable_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PopdlError, match=message):
        read_yaml(write(tmp_path, text))


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(PopdlError, match="cannot read the config: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(PopdlError, match="cannot read the config: Is a directory"):
        read_yaml(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(PopdlError, match="not a text file"):
        read_yaml(binary)


def test_aliases_that_explode(tmp_path: Path) -> None:
    laughs = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    with pytest.raises(PopdlError, match=f"more than {MAX_VALUES:,} values"):
        read_yaml(write(tmp_path, laughs))


def test_aliases_and_merges(tmp_path: Path) -> None:
    text = "a: &rate {low: 1, high: 2}\nb: *rate\nc: {<<: *rate, high: 3}\n"
    assert read_yaml(write(tmp_path, text)) == {
        "a": {"low": 1, "high": 2},
        "b": {"low": 1, "high": 2},
        "c": {"low": 1, "high": 3},
    }


# What is accepted.


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_round_trip(path: Path, tmp_path: Path) -> None:
    study = load_study(path)
    dumped = json.loads(json.dumps(study.model_dump(mode="json")))
    assert build_study(dumped) == study
    write_study(study, tmp_path / "written.yaml")
    assert load_study(tmp_path / "written.yaml") == study


def test_sections_are_frozen(values: dict[str, Any]) -> None:
    study = build_study(values)
    for section, key in ((study, "seed"), (study.encoding, "max_sites"), (study.simulation, "num_scenarios")):
        with pytest.raises(PydanticError, match="frozen"):
            setattr(section, key, 3)


def test_reading_a_config_changes_nothing_in_it(values: dict[str, Any]) -> None:
    before = copy.deepcopy(values)
    build_study(values)
    assert values == before


@pytest.mark.parametrize(
    ("region", "parsed"),
    [
        ("20", ("20", None, None)),
        ("chr20:1-10", ("chr20", 1, 10)),
        ("20:1,000,001-4,000,000", ("20", 1_000_001, 4_000_000)),
        ("HLA:A:5-5", ("HLA:A", 5, 5)),
    ],
)
def test_regions(region: str, parsed: tuple[str, int | None, int | None]) -> None:
    assert parse_region(region) == parsed


@pytest.mark.parametrize("region", ["20:", "20:5", "20:0-5", "20:9-8", ":1-2", "20:a-b"])
def test_bad_regions(region: str) -> None:
    with pytest.raises(ValueError, match="expected contig or contig:start-end"):
        parse_region(region)


# The JSON Schema and the reference page.


def test_schema_and_reference_are_fresh() -> None:
    assert schema.SCHEMA.read_text(encoding="utf-8") == schema.schema_text(), "stale: run `make docs`"
    assert schema.REFERENCE.read_text(encoding="utf-8") == reference.config_reference(), "stale: run `make docs`"


def test_schema_is_a_schema(validator: Draft202012Validator) -> None:
    Draft202012Validator.check_schema(validator.schema)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_snakemake_accepts_the_studies(path: Path) -> None:
    config = read_config(path)
    before = copy.deepcopy(config)
    snakemake_validate(config, str(schema.SCHEMA), set_default=False)
    assert config == before


def test_snakemake_refuses_a_typo(values: dict[str, Any]) -> None:
    with pytest.raises(WorkflowError, match="'sede' was unexpected"):
        snakemake_validate(put(values, "sede", 1), str(schema.SCHEMA), set_default=False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("simulation.sequense_length", 1, "'sequense_length' was unexpected"),
        ("simulation.simulator", "size_chnge", "'size_chnge' is not one of"),
        ("simulation.num_haplotypes", "many", "'many' is not of type 'integer'"),
        ("simulation.num_haplotypes", {"CEU": "x"}, "'x' is not of type 'integer'"),
        ("simulation.recombination_rate", {"map": "a", "bild": "b"}, "'bild' was unexpected"),
        ("simulation.parameters.sise", 3, "'sise' was unexpected"),
        ("networks.mine", {}, "'name' is a required property"),
        ("networks.mine", {"name": "flagl"}, "'flagl' is not one of"),
        ("networks.mine", {"name": "flagel", "filter": [1]}, "'filter' was unexpected"),
        ("networks.exchangeable", {"filters": [1]}, "'filters' was unexpected"),
        ("networks.a b", {"name": "flagel"}, "'a b' does not match"),
        ("baselines", ["ridge_sf"], "'ridge_sf' is not one of"),
        ("encoding.crop", "center", "'center' is not one of"),
        ("training.gradient_clip", -1, "-1 is less than or equal to the minimum of 0"),
        ("training.batch_size", True, "True is not of type 'integer'"),
        ("applications.genome.windows.sise", 1, "'sise' was unexpected"),
        ("targets", {}, "non-empty"),
    ],
)
def test_schema_refuses(
    validator: Draft202012Validator, values: dict[str, Any], key: str, value: Any, message: str
) -> None:
    error = best_match(validator.iter_errors(put(values, key, value)))
    assert isinstance(error, ValidationError)
    assert message in error.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("simulation.num_haplotypes", {"CEU": 4, "YRI": 8}),
        ("simulation.recombination_rate", {"map": "a.txt", "region": [1.0, 2.0]}),
        ("simulation.mutation_rate", {"uniform": [1e-8, 2e-8]}),
        ("training.gradient_clip", None),
        ("networks.exchangeable", {"name": "flagel", "filters": [8, 8]}),
        ("networks.mine", {"name": "plugins/mine.py:Net", "anything": 1}),
        ("baselines", ["plugins/mine.py:Baseline"]),
        ("applications.genome.samples", {"names": ["a", "b"]}),
    ],
)
def test_schema_accepts(validator: Draft202012Validator, values: dict[str, Any], key: str, value: Any) -> None:
    validator.validate(put(values, key, value))


def test_schema_accepts_a_users_own_simulator(validator: Draft202012Validator, values: dict[str, Any]) -> None:
    validator.validate(put(values, "simulation", {"simulator": "plugins/mine.py:Mine", "anything": [1]}))


def test_schema_accepts_what_popdl_writes(validator: Draft202012Validator, values: dict[str, Any]) -> None:
    validator.validate(build_study(values).model_dump(mode="json"))


def test_reference_names_every_key() -> None:
    page = reference.config_reference()
    parts = [schema.simulators(), schema.importers(), schema.network_settings()]
    sections: list[Any] = [Study, *(part for kind in parts for part in kind.values())]
    for section in sections:
        for key, field in section.model_fields.items():
            assert f"| `{field.alias or key}` | " in page
            assert field.description, f"{section.__name__}.{key} has no description"


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("SPIDNA", ["cnn", "spidna"], "spidna"),
        ("loss_weight", ["class_weights", "weight"], "weight"),
        ("n_epochs", ["max_epochs"], "max_epochs"),
    ],
)
def test_words_of_dnadna_are_understood(word: str, known: list[str], meant: str) -> None:
    assert suggestion(word, known).startswith(f"did you mean {meant!r}?")


def test_the_order_of_populations_is_kept() -> None:
    values = {"b": 1, "populations": {"z": 2, "a": 1}, "a": [{"num_haplotypes": {"y": 2, "x": 1}}]}
    ordered = in_any_order(values)
    assert list(ordered) == ["a", "b", "populations"]
    assert list(ordered["populations"]) == ["z", "a"] and list(ordered["a"][0]["num_haplotypes"]) == ["y", "x"]

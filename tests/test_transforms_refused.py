"""Lists of transforms in a config: what is refused and why, and what a study is told."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_transforms_in_training import TARGETS, TRANSFORMS

from popdl.config.encoding import Encoding
from popdl.config.schema import study_schema
from popdl.config.study import build_study, study_text
from popdl.config.transforms import Transforms
from popdl.encoding import Encoder
from popdl.errors import PopdlError
from popdl.networks._base import InputShape
from popdl.study_check import check_study
from popdl.transforms._pipeline import Pipelines


def values(**changes: Any) -> dict[str, Any]:
    """A small valid config."""
    return {
        "study": "small",
        "simulation": {
            "simulator": "size_change",
            "num_haplotypes": 12,
            "sequence_length": 5e4,
            "mutation_rate": 2e-8,
            "recombination_rate": 1e-8,
            "parameters": {"recent_size": {"uniform": [5000, 50000]}, "event_size": 5000.0, "event_time": 100.0},
            "num_scenarios": 10,
        },
        "targets": {"recent_size": {}},
        "encoding": {"max_sites": 64},
        "networks": {"exchangeable": {}},
        **changes,
    }


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": ["crp"]}, r"transforms\.train\[0\]: 'crp' is not one of popdl's transforms; did you mean 'crop'\?"),
        (
            {"train": ["fold", {"sites": 3}]},
            r"transforms\.train\[1\]\.name: expected the name of a transform, found None",
        ),
        (
            {"train": ["fold", {"name": "crop", "site": 3}]},
            r"transforms\.train\[1\]\.site: unknown key; did you mean 'sites'\?",
        ),
        ({"train": ["crop"]}, r"transforms\.train\[0\]: give exactly one of sites and length"),
        (
            {"prediction": ["fold", {"name": "crop", "sites": 3, "where": "random"}]},
            r"transforms\.prediction\[1\]: chance is for training alone, .* found where: random; use `where: centre`",
        ),
        (
            {"validation": [{"name": "subsample", "individuals": [2, 3]}]},
            r"transforms\.validation\[0\]: chance .* found individuals: \[2, 3\]; give one number",
        ),
        *(
            ({"prediction": [entry]}, r"transforms\.prediction\[0\]: chance is for training alone")
            for entry in ("flip_polarity", "shuffle_phase", {"name": "missingness", "share": 0.1})
        ),
        ({"train": ["concat", "fold"]}, r"transforms\.train\[1\]: nothing can follow concat or product"),
        (
            {"train": ["concat"]},
            r"transforms\.train: networks get positions as distance by concat from this list, but positions as distance from",
        ),
        (
            {"train": [{"name": "reformat", "to": "relative"}]},
            r"positions as relative from this list, but positions as distance from",
        ),
        (
            {"train": [{"name": "crop", "sites": 10}, {"name": "crop", "sites": 11}]},
            r"train\[1\]: crop: sites: 11 are more .* 10",
        ),
        (
            {"train": [{"name": "sort"}, {"name": "subsample", "individuals": 2}]},
            r"train\[1\]: subsample: it needs the haplotypes of each",
        ),
    ],
)
def test_lists_that_cannot_be_are_refused(lists, message):
    encoder = Encoder(Encoding(), num_haplotypes=8, ploidy=2, sequence_length=1000)
    with pytest.raises(PopdlError, match=message):
        Pipelines.build(Transforms(**lists), encoder=encoder, targets=TARGETS)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("plce", r"transforms\.train\[0\]\.targets: 'plce' is not a target; known: size, place, kind"),
        (
            "size",
            r"size is moved by some bp, so it must be a regression with `scale: linear`, found regression with `scale: log`",
        ),
        ("kind", "found classification"),
    ],
)
def test_targets_that_cannot_turn_are_refused(target, message):
    encoder = Encoder(Encoding(positions="absolute"), num_haplotypes=8, ploidy=2, sequence_length=1000)
    with pytest.raises(PopdlError, match=message):
        Pipelines.build(Transforms(train=[{"name": "rotate", "targets": [target]}]), encoder=encoder, targets=TARGETS)


def test_a_circular_target_must_go_round_with_the_genome():
    encoder = Encoder(Encoding(positions="absolute"), num_haplotypes=8, ploidy=2, sequence_length=1000)
    lists = Transforms(train=[{"name": "rotate", "targets": ["place"]}])
    Pipelines.build(lists, encoder=encoder, targets={"place": {**TARGETS["place"], "circular": 1000.0}})
    with pytest.raises(PopdlError, match=r"place starts again at 1, but the genome at 1000 bp; give it in bp"):
        Pipelines.build(lists, encoder=encoder, targets={"place": {**TARGETS["place"], "circular": 1.0}})


def test_a_study_is_checked_at_both_ends_of_a_range():
    lists = {
        "train": [{"name": "subsample", "individuals": [2, 5]}, {"name": "crop", "sites": 32, "where": "random"}],
        "prediction": [{"name": "subsample", "individuals": 4}, {"name": "crop", "sites": 32}],
    }
    study = build_study(values(transforms=lists))
    assert InputShape.of(study) == InputShape(8, 32, True)
    assert InputShape.others(Pipelines.of(study)) == [InputShape(4, 32, True), InputShape(10, 32, True)]
    assert check_study(study, config_only=True) == []
    fixed = build_study(values(transforms=lists, networks={"mlp": {}, "exchangeable": {}, "flagel": {}}))
    problems = check_study(fixed, config_only=True)
    assert [problem.split(":")[0] for problem in problems] == ["networks.mlp", "networks.flagel"]
    assert (
        "built for 8 haplotypes × 32 sites, as in prediction, this network does not take the 4 haplotypes"
        in problems[0]
    )


def test_a_study_is_told_every_lists_problem():
    study = build_study(values(transforms={"train": ["shufle"], "prediction": [{"name": "crop", "sites": 999}]}))
    problems = check_study(study, config_only=True)
    assert len(problems) == 2
    assert problems[0].startswith("transforms.train[0]: 'shufle'") and problems[1].startswith(
        "transforms.prediction[0]: crop: sites: 999"
    )


def test_the_schema_knows_transforms():
    validator = Draft202012Validator(study_schema())
    good = [{"name": "subsample", "individuals": [2, 5]}, "polymorphic", {"name": "a.py:B", "x": 1}, "a.py:B"]
    assert validator.is_valid(values(transforms={"train": good, "validation": None}))
    for entry in (
        "polymorfic",
        {"name": "crop", "site": 3},
        {"individuals": 3},
        {"name": "subsample", "individuals": 0},
        3,
    ):
        for split in ("train", "validation", "prediction"):
            assert not validator.is_valid(values(transforms={split: [entry]})), entry


def test_the_full_config_repeats_the_study():
    import yaml

    study = build_study(values(transforms=TRANSFORMS.model_dump(exclude_none=True)))
    assert build_study(yaml.safe_load(study_text(study))) == study

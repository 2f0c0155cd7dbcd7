"""Model cards as a person reads them: one in full, and those of a folder as a table.

Only what a prediction needs was checked when a card was read. The rest is shown as far as it is what popdl writes, and no
character of a card reaches the terminal that could do more there than be seen.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from popdl import plugins
from popdl.config.base import validate
from popdl.config.encoding import Encoding
from popdl.errors import PopdlError
from popdl.model import carried_parts, read_card
from popdl.scaling import probability_shares

__all__ = ["about_study", "card_text", "class_prior", "model_table", "sources_text"]

LINE = 120
METRICS = {"r2": "R²", "rmse": "RMSE", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
"""The metrics that a card shows, by their names in ``metrics.json``; the first that there is stands for a model in a table."""
SOURCES = {"simulator": "simulated by", "format": "imported from"}


def about_study(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of the study of its model, with the source of a simulator (or importer) that is a user's own file.

    Parameters
    ----------
    about
        ``authors``, ``licence`` and ``citation`` as in the config, and the name of the ``simulator`` or of the ``format``.
    """
    parts = {key: plugins.describe(about[key], {}) for key in SOURCES if key in about}
    return {
        **about,
        **{key: {name: part[name] for name in ("name", "source", "sha256")} for key, part in parts.items()},
    }


def model_table(folder: Path) -> str:
    """List the model files in a folder and the folders below it, one line each; those that cannot be used with the reason.

    Raises
    ------
    PopdlError
        If there is no model file at all.
    """
    # Hidden folders hold the checkpoints of trainings that are under way.
    paths = [
        path
        for path in sorted(folder.rglob("*.safetensors"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise PopdlError(f"{folder}: there is no model file (.safetensors) in this folder.")
    rows = [("model", "predicts", "network", "reads", "test accuracy", "size", "popdl", "date", "licence")]
    damaged = []
    for path in paths:
        name = _plain(path.relative_to(folder))
        try:
            card = read_card(path, verify=True)
            reads = _encoding(card, short=True)
        except PopdlError as error:
            damaged.append(f"  {name}: {_plain(str(error).removeprefix(f'{path}: '))}")
            continue
        stat = path.stat()
        date = time.strftime("%Y-%m-%d", time.localtime(stat.st_mtime))
        version, licence = _plain(_at(card, "versions", "popdl") or "?"), _plain(_at(card, "about", "licence") or "-")
        network = card["network"]["name"] if not carried_parts(card) else f"{card['network']['name']} (own code)"
        rows.append(
            (
                name,
                _plain(", ".join(card["targets"])),
                _plain(network),
                reads,
                _accuracy(card),
                f"{stat.st_size / 1e6:,.1f} MB",
                version,
                date,
                licence,
            )
        )
    lines = _aligned(rows) if len(rows) > 1 else []
    lines += [f"{len(damaged)} of {len(paths)} files cannot be used:", *damaged] if damaged else []
    return "\n".join(lines) + "\n"


def card_text(path: Path) -> str:
    """What a model file says of itself, in words."""
    card = read_card(path, verify=True)
    sections = {
        "Predicts": _targets(card),
        "From": _encoding_lines(card),
        "Priors": _priors(card),
        "Training domain": _domain(card),
        "Accuracy on its test split": _scores(card),
        "Network": _network(card),
        "Code of its author (runs only after `popdl predict --trust-plugin`; `popdl card --source` shows it)": [
            f"{_plain(part.name)}  SHA-256 {part.sha256}" for part in carried_parts(card)
        ],
        "Terms": _terms(card),
        "Origin": _origin(card),
    }
    blocks = [str(path)]
    for title, lines in sections.items():
        if lines:
            blocks.append("\n".join([title, *(f"  {line}" for line in lines)]))
    return "\n\n".join(blocks) + "\n"


def sources_text(path: Path) -> str:
    """The code that a model carries of its author: of what a prediction needs, and of the simulator."""
    card = read_card(path, verify=True)
    texts = {part.file: part.source for part in carried_parts(card)}
    origin = _mapping(_at(card, "about", "simulator")) or _mapping(_at(card, "about", "format"))
    if origin.get("source"):
        texts.setdefault(str(origin["name"]).rpartition(":")[0], str(origin["source"]))
    if not texts:
        raise PopdlError(f"{path}: this model carries no code of its author.")
    lines = []
    for name, text in texts.items():
        lines += [f"# {name}", *text.replace("\r\n", "\n").expandtabs().removesuffix("\n").split("\n")]
    return "\n".join(map(_plain, lines)) + "\n"


def _targets(card: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, target in card["targets"].items():
        if target["task"] == "classification":
            what = "one of " + ", ".join(target["classes"])
        else:
            scale = "" if target["scale"] == "linear" else f", {target['scale']} scale"
            what = f"{_number(target.get('low'))} to {_number(target.get('high'))} in training{scale}"
        rows.append((_plain(name), _plain(target.get("unit") or ""), _plain(what)))
    lines = _aligned(rows)
    for name, target in card["targets"].items():
        if sentence := class_prior(target):
            lines += textwrap.wrap(_plain(f"{name}: {sentence}"), LINE - 2)
    return lines


def class_prior(described: Mapping[str, Any]) -> str | None:
    """What weights of classes do to predicted probabilities, in a sentence; None where there are none.

    Parameters
    ----------
    described
        A target as in ``targets.json`` or a card.
    """
    weights = described.get("class_weights")
    if not weights:
        return None
    said = "the classes' weights in the loss are " + _listed(weights, "{:.3g}") + ", so a network's probabilities "
    shares = probability_shares(described)
    if shares is None:
        return f"{said}do not refer to the shares of classes in its training split."
    return (
        f"{said}(and their calibration) refer to a prior with the shares {_listed(shares, '{:.1%}')}, not to those of the training "
        f"split ({_listed(described['class_shares'], '{:.1%}')})."
    )


def _listed(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name}: {form.format(value)}" for name, value in values.items())


def _encoding(card: Mapping[str, Any], *, short: bool = False) -> str:
    """The encoding in words."""
    settings = validate(Encoding, card["encoding"]["settings"], where="encoding.settings")
    length = settings.crop_length or card["encoding"]["sequence_length"]
    shape = card["shape"]
    rows = " + ".join(map(str, shape.get("populations") or [shape["num_haplotypes"]]))
    unit = "rows of allele frequencies" if shape.get("frequencies") else "haplotypes"
    words = [f"{rows} {unit} × ≤ {settings.max_sites} sites of {_number(length)} bp"]
    words.append(f"{settings.alleles} alleles")
    if settings.min_maf:
        words.append(f"MAF ≥ {settings.min_maf:g}")
    if settings.phase == "ignore":
        words.append("unphased")
    if not short:
        words.append("haplotypes as given" if settings.sort == "none" else f"haplotypes sorted by {settings.sort}")
        words.append("no positions" if settings.positions == "none" else f"positions as {settings.positions}")
    return ", ".join(words)


def _encoding_lines(card: Mapping[str, Any]) -> list[str]:
    groups = [_plain(group["name"]) for group in card["encoding"].get("statistics", [])]
    lines = textwrap.wrap(_encoding(card), LINE - 2)
    lines.append(f"individuals of ploidy {card['encoding']['ploidy']}")
    transforms = _mapping(card.get("transforms")).get("prediction") or []
    if transforms:
        words = ", then ".join(" ".join([part["name"], _chosen(part["options"])]).rstrip() for part in transforms)
        lines += textwrap.wrap(f"transformed for prediction by {_plain(words)}", LINE - 2)
    return lines + ([f"statistics beside the standard ones: {', '.join(groups)}"] if groups else [])


def _chosen(options: Mapping[str, Any]) -> str:
    """The options of a part that are not null, in brackets."""
    given = ", ".join(f"{key}: {value}" for key, value in options.items() if value is not None)
    return f"({given})" if given else ""


def _priors(card: Mapping[str, Any]) -> list[str]:
    priors = _mapping(card.get("priors"))
    if _at(card, "about", "format"):  # what stands there are labels: of imported data no prior is known
        return ["not known, as the data were imported; the targets' ranges in training are above"]
    named = {**_mapping(priors.get("parameters")), **{key: priors[key] for key in priors if key != "parameters"}}
    return _aligned([(_plain(name), _prior(prior)) for name, prior in named.items() if prior is not None])


def _prior(prior: Any) -> str:
    """A prior as the config has it, without the brackets."""
    if isinstance(prior, Mapping):
        return ", ".join(f"{_plain(key)} {_prior(value)}" for key, value in prior.items() if value is not None)
    if isinstance(prior, Sequence) and not isinstance(prior, str):
        return "[" + ", ".join(_prior(value) for value in prior) + "]"
    return _number(prior)


def _domain(card: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, words in SOURCES.items():
        if name := _at(card, "about", key, "name"):
            lines.append(f"examples {words} {_plain(name)}")
    numbers = {name: _number(_at(card, "num_examples", name) or "?") for name in ("train", "validation")}
    lines.append(f"{numbers['train']} examples for training, {numbers['validation']} for validation")
    domain = _at(card, "realism", "domain")
    if isinstance(domain, float):
        lines.append(f"a window less usual than {domain:.0%} of the simulations is marked as outside")
    return lines


def _scores(card: Mapping[str, Any]) -> list[str]:
    """Metrics of the network beside those of the baselines."""
    metrics = _mapping(card.get("metrics"))
    if not metrics:
        return ["not in this file: `popdl evaluate` writes it into the best model of a study, model.safetensors"]
    columns = {
        "network": _mapping(metrics.get("targets")),
        **{name: _mapping(values) for name, values in _mapping(metrics.get("baselines")).items()},
    }
    rows: list[tuple[str, ...]] = [("", "", *map(_plain, columns))]
    for target in card["targets"]:
        for key, title in METRICS.items():
            values = [_at(column, target, "metrics", key) for column in columns.values()]
            if any(_mapping(value) for value in values):
                rows.append((_plain(target), title, *map(_measured, values)))
    lines = _aligned(rows) if len(rows) > 1 else []
    count = _number(metrics.get("num_test_examples", "?"))
    intervals = card["intervals"]
    return [*lines, f"± bootstrap standard error, on {count} examples; intervals aim at {intervals['coverage']:.0%}"]


def _network(card: Mapping[str, Any]) -> list[str]:
    options = ", ".join(f"{key}: {value}" for key, value in card["network"]["options"].items())
    size = f"{_plain(card['network']['name'])}, {_number(card.get('num_parameters', '?'))} parameters"
    epochs = f"weights of epoch {_number(card.get('best_epoch', '?'))} of {_number(card.get('num_epochs', '?'))}"
    loss = f"validation loss {card['validation_loss']:.4g}"
    return [f"{size}; {epochs}, {loss}", *textwrap.wrap(_plain(options), LINE - 2)]


def _terms(card: Mapping[str, Any]) -> list[str]:
    about = _mapping(card.get("about"))
    authors = about.get("authors")
    rows = [("authors", ", ".join(map(_plain, authors)) if isinstance(authors, list) else "")]
    rows += [(key, _plain(about.get(key) or "")) for key in ("licence", "citation")]
    return _aligned([row for row in rows if row[1]]) or ["its author names no licence: ask before you use or share it"]


def _origin(card: Mapping[str, Any]) -> list[str]:
    study = ", ".join(f"{key} {_number(card.get(key, '?'))}" for key in ("study", "replicate", "seed"))
    versions = ", ".join(f"{_plain(key)} {_plain(value)}" for key, value in _mapping(card.get("versions")).items())
    return _aligned(
        [
            ("made in", study),
            *_start(card),
            ("with", versions),
            ("weights", f"SHA-256 {card['weights_sha256']}"),
            ("encoding", f"SHA-256 {card['fingerprint']}"),
            ("dataset", f"SHA-256 {_plain(card.get('dataset', '?'))}"),
            ("format", f"version {card['format_version']}"),
        ]
    )


def _start(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The model that the training started from, if any."""
    start = _mapping(card.get("initialised_from"))
    if not start:
        return []
    network, study = _plain(start.get("network", "?")), _plain(start.get("study", "?"))
    numbers = [_number(start.get(key, "?")) for key in ("num_taken", "num_body")]
    targets = [
        f"{_plain(name)} {_plain(how) if isinstance(how, str) else f'taken for {_prior(how)}'}"
        for name, how in _mapping(start.get("targets")).items()
    ]
    return [
        ("fine-tuned", f"from a {network} of study {study}, SHA-256 {_plain(start.get('sha256', '?'))}"),
        ("", f"{numbers[0]} of {numbers[1]} numbers of its body taken; targets: {', '.join(targets) or '?'}"),
        ("", f"the test split's examples: {_plain(start.get('test_split', 'not known'))} by that model"),
    ]


def _accuracy(card: Mapping[str, Any]) -> str:
    """One metric for each target."""
    words = []
    for target in card["targets"]:
        metrics = _mapping(_at(card, "metrics", "targets", target, "metrics"))
        key = next((key for key in METRICS if key in metrics), None)
        if key is not None:
            words.append(f"{_plain(target)} {METRICS[key]} {_number(_at(metrics, key, 'value'))}")
    return ", ".join(words) or "-"


def _measured(value: Any) -> str:
    number, error = _mapping(value).get("value"), _mapping(value).get("se")
    return _number(number) + (f" ± {error:.2g}" if isinstance(error, float) else "") if number is not None else "-"


def _number(value: Any) -> str:
    """A number to four digits, with thousands set apart; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _plain(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if 1e-3 <= abs(value) < 1e4 else _long(value)


def _long(value: float) -> str:
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _at(value: Any, *keys: str) -> Any:
    """What lies below these keys, None where there is nothing."""
    for key in keys:
        value = _mapping(value).get(key)
    return value


def _plain(value: Any) -> str:
    """Text without characters that a terminal obeys."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(value))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns."""
    return list(_lines(rows, [max(map(len, column)) for column in zip(*rows, strict=True)])) if rows else []


def _lines(rows: Sequence[tuple[str, ...]], widths: Sequence[int]) -> Iterator[str]:
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

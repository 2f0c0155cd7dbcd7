"""docs/config_reference.md: every key of the config, written from the typed sections."""

from __future__ import annotations

import ast
import json
import types
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

import popdl
from popdl import plugins
from popdl.config.base import Section
from popdl.config.schema import importers, network_settings, simulators, transform_settings
from popdl.config.study import Study
from popdl.config.transforms import Transforms
from popdl.formats._base import Importer
from popdl.simulators._base import Simulator
from popdl.statistics._base import FOLDER as STATISTICS
from popdl.statistics._base import Statistic

__all__ = ["config_reference", "default_text"]

OPENING = """\
# Config reference

<!-- Written by `make docs` from the types in src/popdl; edit those. -->

A study is one YAML file. This page lists every key; [config/README.md](../config/README.md) explains how a study is put
together. A key without a default is required. Lengths are in bp, times in generations, population sizes in
individuals, rates per bp per generation. Numbers may be written as `1e-8` or `1.0e-8`. A key that is not on this
page is refused.
"""

PRIORS = """\
## Priors

Wherever the type is *prior*, write one of

| in the config | meaning |
|---|---|
| `0.5` | always this value |
| `{uniform: [low, high]}` | uniform between two numbers |
| `{loguniform: [low, high]}` | uniform on a log scale |
| `{choice: [a, b, c]}` | one of these values, numbers or words, with equal chances |
| `{gamma: [2, 0, 10]}` | any distribution of [scipy.stats](https://docs.scipy.org/doc/scipy/reference/stats.html) by its name, with scipy's arguments as a list or a mapping (`{norm: {loc: 0, scale: 1}}`) |
| `{rate_from_map: file}` | the recombination rate at a random place of a HapMap-format map, places without recombination left out |

and, beside the distribution, `times: other` to multiply the draw by the parameter `other`, `over: other` to divide it by one,
`plus: other` to add one in the end, and `within: [low, high]` to draw again until the value lies in these bounds:
`{loguniform: [0.1, 10], times: recent_size, within: [5000, 50000]}`. A parameter that only others refer to may have any name.
"""

WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    dict[str, Any]: "its options",
    Any: "anything",
}
NO_DEFAULT = "none"
SECTION_DEFAULT = "its defaults"
BOUNDS = {
    annotated_types.Ge: ("≥", "ge"),
    annotated_types.Gt: (">", "gt"),
    annotated_types.Le: ("≤", "le"),
    annotated_types.Lt: ("<", "lt"),
}


def config_reference() -> str:
    """The page as Markdown: each section, each key with type, default, unit and meaning, and the options of every part."""
    pages = [OPENING, "## The study\n", cleandoc(Study.__doc__ or ""), "", *_table(Study)]
    for key, field in Study.model_fields.items():
        if key == "simulation":
            pages += _simulation()
        elif key == "import_":
            pages += _import()
        elif key == "networks":
            pages += _networks()
        elif key == "statistics":
            pages += _statistics()
        elif key == "transforms":
            pages += _transforms()
        elif key == "baselines":
            pages += _baselines()
        else:
            for section in _sections(field.annotation):
                pages += ["", f"## {key}\n", *_section(section)]
    return "\n".join([*pages, "", PRIORS])


def _simulation() -> Iterator[str]:
    yield "\n## simulation\n"
    yield "Keys of every simulator:\n"
    yield from _table(Simulator)
    for section in _nested(Simulator):
        yield from (f"\n### {section.__name__}\n", *_section(section))
    for name, simulator in simulators().items():
        yield f"\n### simulator: {name}\n"
        yield cleandoc(simulator.__doc__ or "")
        if simulator.needs and simulator.needed_parameters is Simulator.needed_parameters:
            yield f"\nParameters: {', '.join(f'`{need}`' for need in simulator.needs)}."
        own = {
            key: field
            for key, field in simulator.model_fields.items()
            if key not in Simulator.model_fields or field.annotation != Simulator.model_fields[key].annotation
        }
        if own:
            yield ""
            yield from _rows(own)
            for section in _nested(simulator, without=Simulator):
                yield from (f"\n#### {section.__name__}\n", *_section(section))


def _import() -> Iterator[str]:
    yield "\n## import\n"
    yield "In the place of `simulation`; [importing.md](importing.md) shows each format at work. Keys of every format:\n"
    yield from _table(Importer)
    for section in _nested(Importer):
        yield from (f"\n### {section.__name__}\n", *_section(section))
    for name, importer in importers().items():
        yield f"\n### format: {name}\n"
        yield cleandoc(importer.__doc__ or "")
        yield f"\nLabels can come from: {', '.join(f'`{source}`' for source in importer.sources)}."
        own = {
            key: field
            for key, field in importer.model_fields.items()
            if key not in Importer.model_fields or field.annotation != Importer.model_fields[key].annotation
        }
        if own:
            yield ""
            yield from _rows(own)


def _networks() -> Iterator[str]:
    yield "\n## networks\n"
    yield "Each key is a name of your choice for a network, under which its options stand. `name` says which network it is, and can be left out"
    yield "where the key is the name of a network already; `name: path/to/file.py:ClassName` uses your own."
    for name, settings in network_settings().items():
        yield f"\n### network: {name}\n"
        yield _first_paragraph("networks", name)
        yield ""
        yield from _table(settings)
        for section in _nested(settings):
            yield from (f"\n#### {section.__name__}\n", *_section(section))


def _transforms() -> Iterator[str]:
    yield "\n## transforms\n"
    yield from _section(Transforms)
    for name, settings in transform_settings().items():
        yield f"\n### transform: {name}\n"
        yield _first_paragraph("transforms", name)
        yield ""
        yield from _table(settings)


def _baselines() -> Iterator[str]:
    yield "\n## baselines\n"
    yield "A list of names; `path/to/file.py:ClassName` uses your own.\n"
    yield "| name | method |"
    yield "|---|---|"
    for name in plugins.known("baselines"):
        yield f"| `{name}` | {_first_paragraph('baselines', name)} |"


def _statistics() -> Iterator[str]:
    yield "\n## statistics\n"
    yield "A list of groups, each by its name, or `{name: …, option: …}`; `path/to/file.py:ClassName` uses your own"
    yield "([plugins.md](plugins.md)). Every study has the standard statistics; these come on top."
    for name in plugins.known(STATISTICS):
        yield f"\n### group: {name}\n"
        yield _first_paragraph(STATISTICS, name)
        yield ""
        yield from _table(plugins.load(STATISTICS, name, Statistic).Settings)


def _first_paragraph(kind: str, name: str) -> str:
    """The start of a part's own docstring, read without importing it."""
    source = (Path(popdl.__path__[0], *kind.split(".")) / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")


def _section(section: type[Section]) -> Iterator[str]:
    yield cleandoc(section.__doc__ or "")
    yield ""
    yield from _table(section)
    for nested in _nested(section):
        yield from (f"\n### {nested.__name__}\n", *_section(nested))


def _table(section: type[Section]) -> Iterator[str]:
    yield from _rows(section.model_fields)


def _rows(fields: dict[str, FieldInfo]) -> Iterator[str]:
    if not fields:
        yield "No options."
        return
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key, field in fields.items():
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{field.alias or key}` | {_words(field.annotation)}{_bounds(field)} | {_default(field)} | {meaning} |"


def _words(annotation: Any) -> str:
    """A type as a user would say it."""
    if annotation in WORDS:
        return WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        if annotation.written_as:
            return annotation.written_as
        return "section" if issubclass(annotation, Simulator | Importer) else f"section {annotation.__name__}"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(argument) for argument in arguments if argument is not type(None))
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(_words(argument) for argument in arguments)}]"
    if origin is dict:
        return f"mapping of names to {_words(arguments[1])}"
    return _words(arguments[0])


def _bounds(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(item, name):g}"
        for item in field.metadata
        for kind, (sign, name) in BOUNDS.items()
        if isinstance(item, kind)
    ]
    return f", {' and '.join(bounds)}" if bounds else ""


def _default(field: FieldInfo) -> str:
    text = default_text(field)
    if field.is_required():
        return f"**{text}**"
    return text if text in (NO_DEFAULT, SECTION_DEFAULT) else f"`{text}`"


def default_text(field: FieldInfo) -> str:
    """The default of a key, as a config would write it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return NO_DEFAULT
    if isinstance(default, Section) and not default.written_as:
        return SECTION_DEFAULT
    if isinstance(default, list):
        default = [item.model_dump(mode="json") if isinstance(item, Section) else item for item in default]
    elif isinstance(default, Section):
        default = default.model_dump(mode="json")
    return json.dumps(default, ensure_ascii=False)


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for part in get_args(annotation) for found in _sections(part)]


def _nested(section: type[Section], without: type[Section] | None = None) -> list[type[Section]]:
    """The sections that a section's keys hold, each once, unless they are written as something else than a mapping."""
    known = _nested(without) if without else []
    found = [nested for field in section.model_fields.values() for nested in _sections(field.annotation)]
    return [nested for nested in dict.fromkeys(found) if not nested.written_as and nested not in known]

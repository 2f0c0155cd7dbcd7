"""The config as a JSON Schema, generated from the typed sections, for Snakemake and for editors.

``python -m popdl.config.schema`` (or ``make docs``) rewrites ``workflow/schemas/config.schema.json`` and
``docs/config_reference.md``; a test fails where either is stale. Wherever pydantic writes ``anyOf``, this schema decides
by type or by name and then says ``if … then``, because a validator that is told which branch was meant can name the
wrong key, and one that has tried them all can only say that none fits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import create_model
from pydantic.json_schema import models_json_schema

from popdl import plugins
from popdl.config.base import Section
from popdl.config.study import Study
from popdl.formats._base import Importer
from popdl.simulators._base import Simulator

__all__ = ["importers", "network_settings", "simulators", "study_schema", "transform_settings"]

REPOSITORY = Path(__file__).resolve().parents[3]
SCHEMA = REPOSITORY / "workflow" / "schemas" / "config.schema.json"
REFERENCE = REPOSITORY / "docs" / "config_reference.md"

PLUGIN = {"type": "string", "pattern": r"\.py:[A-Za-z_]\w*$"}


def simulators() -> dict[str, type[Simulator]]:
    """Every simulator that ships with popdl, by name."""
    return {name: plugins.load("simulators", name, Simulator) for name in plugins.known("simulators")}


def importers() -> dict[str, type[Importer]]:
    """Every importer that ships with popdl, by the name of its format."""
    return {name: plugins.load("formats", name, Importer) for name in plugins.known("formats")}


def network_settings() -> dict[str, type[Section]]:
    """The options of every network that ships with popdl, by name."""
    from popdl.networks._base import Network

    return {name: plugins.load("networks", name, Network).Settings for name in plugins.known("networks")}


def transform_settings() -> dict[str, type[Section]]:
    """The options of every transform that ships with popdl, by name."""
    from popdl.transforms._base import Transform

    found = {name: plugins.load("transforms", name, Transform).Settings for name in plugins.known("transforms")}
    # A class of its own for each: those without options share one.
    return {name: create_model(name, __base__=settings) for name, settings in found.items()}


def study_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a study's whole config.

    It checks what can be checked without looking beyond one key: names, types, ranges, and the options of each part by
    the part's name. What crosses sections is checked by :class:`popdl.config.study.Study`.
    """
    parts: dict[str, type[Section]] = {f"simulation_{name}": part for name, part in simulators().items()}
    parts |= {f"import_{name}": part for name, part in importers().items()}
    parts |= {f"network_{name}": settings for name, settings in network_settings().items()}
    parts |= {f"transform_{name}": settings for name, settings in transform_settings().items()}
    models: list[type[Section]] = [Study, *parts.values()]
    references, generated = models_json_schema([(model, "validation") for model in models])
    names = {references[part, "validation"]["$ref"]: key for key, part in parts.items()}
    definitions = {names.get(f"#/$defs/{key}", key): node for key, node in generated["$defs"].items()}
    schema = definitions.pop("Study")
    definitions.pop("Simulator")
    definitions.pop("Importer")
    schema["$defs"] = definitions
    schema = _tidy(schema, names, definitions)
    definitions = schema["$defs"]

    for name, simulator in simulators().items():
        _close_parameters(definitions[f"simulation_{name}"], simulator)
    for name in importers():
        properties = definitions[f"import_{name}"]["properties"]
        properties["format"] = {"description": properties["format"]["description"], "type": "string"}
    for name in network_settings():
        definitions[f"network_{name}"]["properties"]["name"] = {"description": "Which network this is.", "const": name}
    for name in transform_settings():
        definitions[f"transform_{name}"]["properties"]["name"] = {
            "description": "Which transform this is.",
            "const": name,
        }
    definitions["transform"] = _name_or_options("transform", list(transform_settings()))
    for part in definitions["Transforms"]["properties"].values():
        array = part.get("else", part)  # a list that may be null is decided by type
        array["items"] = {"$ref": "#/$defs/transform"}
    for section, key, known in (("simulation", "simulator", simulators()), ("import", "format", importers())):
        description = schema["properties"][section]["description"]
        by_name = _by_name(key, section, list(known))
        schema["properties"][section] = {"description": description, "if": {"type": "null"}, "else": by_name}
    schema["anyOf"] = [{"required": ["simulation"]}, {"required": ["import"]}]
    schema["properties"]["networks"] |= _networks(list(network_settings()))
    schema["properties"]["baselines"]["items"] = _name_or_plugin(plugins.known("baselines"))
    group = _name_or_plugin(plugins.known("statistics.optional"))
    named = {"type": "object", "required": ["name"], "properties": {"name": group}}
    schema["properties"]["statistics"]["items"] = {"if": {"type": "object"}, "then": named, "else": group}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Config of a popdl study", **schema}


def _name_or_plugin(known: list[str]) -> dict[str, Any]:
    """One of popdl's names, or a user's own file."""
    return {"type": "string", "if": PLUGIN, "else": {"enum": known}}


def _name_or_options(kind: str, known: list[str]) -> dict[str, Any]:
    """A part by its name alone, or by ``name`` with its options."""
    return {"if": {"type": "string"}, "then": _name_or_plugin(known), "else": _by_name("name", kind, known)}


def _by_name(key: str, kind: str, known: list[str]) -> dict[str, Any]:
    """An object whose ``key`` names the part that reads all of it; a user's own part checks its own keys."""
    return {
        "type": "object",
        "required": [key],
        "properties": {key: _name_or_plugin(known)},
        "allOf": [
            {
                "if": {"properties": {key: {"const": name}}, "required": [key]},
                "then": {"$ref": f"#/$defs/{kind}_{name}"},
            }
            for name in known
        ],
    }


def _networks(known: list[str]) -> dict[str, Any]:
    """A network's key is its name where the options have no ``name``."""
    named = _by_name("name", "network", known)
    return {
        "properties": {
            name: {
                "if": {"type": "object", "required": ["name"]},
                "then": named,
                "else": {"$ref": f"#/$defs/network_{name}"},
            }
            for name in known
        },
        "additionalProperties": named,
    }


def _close_parameters(definition: dict[str, Any], simulator: type[Simulator]) -> None:
    """Name the parameters of a simulator, unless they depend on its settings."""
    properties = definition["properties"]
    properties["simulator"] = {"description": properties["simulator"]["description"], "type": "string"}
    if simulator.needed_parameters is Simulator.needed_parameters:
        properties["parameters"] |= {
            "properties": {name: {"$ref": "#/$defs/Prior"} for name in simulator.needs},
            "required": list(simulator.needs),
            "additionalProperties": False,
        }


def _tidy(node: Any, names: dict[str, str], definitions: dict[str, Any]) -> Any:
    """Drop generated titles and formats, give definitions their short names, refuse keys that do not fit a pattern, and decide unions by type."""
    if isinstance(node, list):
        return [_tidy(item, names, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {
        key: _tidy(value, names, definitions)
        for key, value in node.items()
        if not (key in ("title", "format") and isinstance(value, str))
    }
    reference = tidy.get("$ref")
    if isinstance(reference, str) and reference in names:
        tidy["$ref"] = f"#/$defs/{names[reference]}"
    if "patternProperties" in tidy:
        ((pattern, values),) = tidy.pop("patternProperties").items()
        tidy |= {"propertyNames": {"pattern": pattern}, "additionalProperties": values}
    if "anyOf" in tidy:
        tidy |= _decide(tidy.pop("anyOf"), definitions)
    return tidy


def _type(branch: dict[str, Any], definitions: dict[str, Any]) -> str | None:
    target = definitions.get(branch.get("$ref", "").removeprefix("#/$defs/"), branch)
    found = target.get("type")
    return found if isinstance(found, str) else None


def _decide(branches: list[dict[str, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    """``if … then … else …`` by type, null first; errors speak of the first other branch where none fits."""
    others = [branch for branch in branches if branch != {"type": "null"}]
    types = [_type(branch, definitions) for branch in others]
    decision: dict[str, Any]
    if {"$ref": "#/$defs/RecombinationMap"} in others:
        by_map, by_prior = others
        decision = {"if": {"type": "object", "required": ["map"]}, "then": by_map, "else": by_prior}
    elif len(others) > 1 and (None in types or len(set(types)) < len(types)):
        decision = {"anyOf": others}
    else:
        decision = others[0]
        for found, branch in zip(types[1:], others[1:], strict=True):
            decision = {"if": {"type": found}, "then": branch, "else": decision}
    return {"if": {"type": "null"}, "else": decision} if len(others) < len(branches) else decision


def main() -> None:
    """Write the schema and the config reference where the repository keeps them."""
    from popdl.config.reference import config_reference

    SCHEMA.write_text(schema_text(), encoding="utf-8")
    REFERENCE.write_text(config_reference(), encoding="utf-8")


def schema_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(study_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()

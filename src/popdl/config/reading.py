"""YAML as users write it: `1e-8` is a number, and a key written twice is an error.

Kept free of pydantic: the Snakefile calls :func:`numbers_from_strings` in every job.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from popdl.errors import PopdlError

__all__ = ["in_any_order", "numbers_from_strings", "read_yaml"]

MAX_VALUES = 100_000
"""A config with more values than this, every alias written out, is refused: a few lines of nested aliases can stand for billions."""

MERGE = "tag:yaml.org,2002:merge"

# What YAML 1.1 reads as a string although every user means a number: an exponent without a dot or without a sign.
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")


def numbers_from_strings(value: Any) -> Any:
    """Return ``value`` with strings such as ``"1e-8"`` turned into floats, at any depth."""
    if isinstance(value, dict):
        return {key: numbers_from_strings(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers_from_strings(item) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value.replace("_", ""))
    return value


def in_any_order(value: Any) -> Any:
    """Return ``value`` with the keys of mappings sorted, where their order means nothing: two configs that say the same are equal.

    The order of populations in `num_haplotypes` does mean something: it is that of the columns.
    """
    if isinstance(value, dict):
        return {
            key: value[key] if key == "num_haplotypes" else in_any_order(value[key]) for key in sorted(value, key=str)
        }
    return [in_any_order(item) for item in value] if isinstance(value, list) else value


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key written twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is written twice, first in line {seen[key]}", key_node.start_mark
            )
        seen[key] = key_node.start_mark.line + 1
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _num_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values under a node with every alias written out; ``known`` is 0 for a node whose count is under way."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise yaml.constructor.ConstructorError(None, None, "a value contains itself", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    known[id(node)] = 1 + sum(_num_values(child, known) for child in children)
    if known[id(node)] > MAX_VALUES:
        raise yaml.constructor.ConstructorError(
            None, None, f"this stands for more than {MAX_VALUES:,} values, too many for a config", node.start_mark
        )
    return known[id(node)]


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _num_values(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; numbers written like ``1e6`` become numbers.

    Raises
    ------
    PopdlError
        If the file cannot be read, is not YAML, is not a mapping, or repeats a key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PopdlError(f"{path}: cannot read the config: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise PopdlError(f"{path}: not a text file; expected a YAML config.") from None
    try:
        value = _load(text)
    except RecursionError:
        raise PopdlError(f"{path}: the config is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise PopdlError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(value, dict):
        raise PopdlError(f"{path}: expected a mapping of sections, found {type(value).__name__}.")
    converted: dict[str, Any] = numbers_from_strings(value)
    return converted

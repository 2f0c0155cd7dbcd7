"""YAML as users write it: `1e-8` is a number, a key written twice is an error, and a config may inherit from another.

Kept free of pydantic: the Snakefile reads its config with these functions in every job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from popdl.errors import PopdlError

__all__ = [
    "INHERITS",
    "NULL_IS_A_VALUE",
    "in_any_order",
    "merged",
    "numbers_from_strings",
    "read_config",
    "read_configs",
    "read_yaml",
]

MAX_VALUES = 100_000
"""A config with more values than this, every alias written out, is refused: a few lines of nested aliases can stand for billions."""

INHERITS = "inherits"
ORIGINS = ("simulation", "import")
NULL_IS_A_VALUE = ("gradient_clip",)
"""Keys for which null says something of its own; for every other key it says that the key is not given."""
WHOLE = ("mutation_rate", "recombination_rate", "samples", "splits", "windows")
"""Keys whose mapping is one choice among several: half of an inherited one and half of another would make no sense."""
OF_WHOLES = ("parameters", "over")
"""Keys under which each name has such a choice: a prior."""

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

    The order of populations in `num_haplotypes` and `populations` does mean something: it is that of the columns.
    """
    if isinstance(value, dict):
        return {
            key: value[key] if _last(key) in ("num_haplotypes", "populations") else in_any_order(value[key])
            for key in sorted(value, key=str)
        }
    return [in_any_order(item) for item in value] if isinstance(value, list) else value


def _last(key: Any) -> str:
    """The last part of a key that `search:` writes with dots."""
    return str(key).rpartition(".")[2]


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


def merged(base: dict[str, Any], changes: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """Return ``base`` with ``changes``: mappings are merged at any depth, all else is replaced, and null takes a key away.

    With ``whole``, mappings are replaced too, as everywhere where a mapping is one choice among several, such as a prior, or an
    optimizer of another name.
    """
    result = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if value is None and key in base and key not in NULL_IS_A_VALUE:
            del result[key]
        elif (
            isinstance(value, dict)
            and isinstance(before, dict)
            and not (whole or key in WHOLE or _is_another(value, before))
        ):
            result[key] = merged(before, value, whole=key in OF_WHOLES)
        else:
            result[key] = value
    return result


def _is_another(value: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a part takes the place of one of another name, whose options it does not have."""
    return "name" in value and "name" in before and value["name"] != before["name"]


def read_config(path: str | Path) -> dict[str, Any]:
    """Read the config of a study, together with the files that it inherits from.

    ``inherits: other.yaml`` (its path is seen from the file that says so) takes over everything that the file does not
    change, except for the name of the study: results of two files never share a folder. ``simulation:`` takes the place of an
    inherited ``import:``, and the other way round.

    Raises
    ------
    PopdlError
        If a file is not a config (:func:`read_yaml`), or inherits from itself.
    """
    return _inherited(Path(path), [])


def read_configs(paths: Iterable[str | Path], changes: dict[str, Any]) -> dict[str, Any]:
    """Read configs that are given together, later ones changing earlier ones, and apply ``changes`` from the command line."""
    return reduce(merged, [*(read_config(path) for path in paths), changes])


def _inherited(path: Path, chain: list[Path]) -> dict[str, Any]:
    if path.resolve() in [earlier.resolve() for earlier in chain]:
        raise PopdlError(
            f"{chain[0]}: a config cannot inherit from itself: {' → '.join(map(str, [*chain, path]))}; remove one `inherits:`."
        )
    values = read_yaml(path)
    if INHERITS not in values:
        return values
    parent = values.pop(INHERITS)
    if not isinstance(parent, str):
        raise PopdlError(f"{path}: inherits: expected the path of one config, found {parent!r}.")
    base = _inherited(path.parent / parent, [*chain, path])
    base.pop("study", None)
    if any(values.get(origin) is not None for origin in ORIGINS):
        base = {key: value for key, value in base.items() if key not in ORIGINS or values.get(key) is not None}
    return merged(base, values)

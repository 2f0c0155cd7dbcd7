"""Finding parts by name: the files of a folder of popdl, or a user's own Python file.

A simulator, network or baseline is one file; its name in the config is the name of the file. There is nothing to register:
``simulators/size_change.py`` defines one public subclass of ``Simulator`` and is thereby the simulator ``size_change``.
A user's own part is named ``path/to/file.py:ClassName``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from popdl.config.base import suggestion
from popdl.errors import PopdlError

__all__ = ["describe", "is_file", "known", "load", "source_hash"]

Part = TypeVar("Part")


def known(kind: str) -> list[str]:
    """Names of the parts that ship with popdl; ``kind`` is a folder such as ``simulators``."""
    package = importlib.import_module(f"popdl.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def is_file(name: str) -> bool:
    """Whether a name means a user's own file, ``path/to/file.py:ClassName``."""
    return ".py:" in name


def source_hash(name: str) -> str:
    """SHA-256 of a user's own file, so that a changed plugin counts as a changed config."""
    return hashlib.sha256(_path(name).read_bytes()).hexdigest()


def describe(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A part as a model's card holds it: its options, and of a user's own file the source and its hash, else None."""
    own = is_file(name)
    return {
        "name": name,
        "options": dict(options),
        "source": _path(name).read_text(encoding="utf-8") if own else None,
        "sha256": source_hash(name) if own else None,
    }


def load(kind: str, name: str, base: type[Part]) -> type[Part]:
    """Return the class named in a config.

    Parameters
    ----------
    kind
        The folder of popdl that holds such parts: ``simulators``, ``networks``, ``transforms``, ``baselines``.
    name
        The name of a file in that folder, or ``path/to/file.py:ClassName``.
    base
        The class that the part must derive from.
    """
    if is_file(name):
        return _from_file(name, base)
    if name not in known(kind):
        raise PopdlError(
            f"{name!r} is not one of popdl's {kind}; {suggestion(name, known(kind))}; or path/to/file.py:Class."
        )
    module = importlib.import_module(f"popdl.{kind}.{name}")
    parts = [
        value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__ and key[0] != "_"
    ]
    assert len(parts) == 1, f"{module.__name__} must define one public {base.__name__}, found {parts}"
    return parts[0]


def _path(name: str) -> Path:
    path = Path(name.rpartition(":")[0])
    if not path.is_file():
        raise PopdlError(f"{name}: there is no file {path}; give its path from the project's root.")
    return path


def _from_file(name: str, base: type[Part]) -> type[Part]:
    path, attribute = _path(name), name.rpartition(":")[2]
    module_name = f"popdl_plugin_{source_hash(name)[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise PopdlError(f"{path}: the plugin cannot be imported: {type(error).__name__}: {error}.") from error
    part = getattr(module, attribute, None)
    if part is None:
        classes = [
            key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == module_name
        ]
        raise PopdlError(f"{path}: there is no {attribute!r} in this file; {suggestion(attribute, classes)}.")
    if not (isinstance(part, type) and issubclass(part, base)):
        raise PopdlError(f"{path}: {attribute} must be a subclass of {base.__module__}.{base.__name__}.")
    return part

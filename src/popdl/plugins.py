"""Finding parts by name: the files of a folder of popdl, or a user's own Python file.

A simulator, network or baseline is one file; its name in the config is the name of the file. There is nothing to register:
``simulators/size_change.py`` defines one public subclass of ``Simulator`` and is thereby the simulator ``size_change``.
A user's own part is named ``path/to/file.py:ClassName``, and lies in the project: in the working directory, or behind a link in it.

A model file carries the source of its author's parts. Inside :func:`carried` those names mean the sources of the model and
nothing else, and none of them is run before its user has said so.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from pathlib import Path
from typing import Any, TypeVar

from popdl.config.base import suggestion
from popdl.errors import PopdlError

__all__ = [
    "Carried",
    "Trust",
    "carried",
    "describe",
    "in_project",
    "is_file",
    "known",
    "load",
    "refuse_changed",
    "source_hash",
]

Part = TypeVar("Part")


@dataclass(frozen=True)
class Carried:
    """A user's own part as a model file carries it."""

    name: str
    """``path/to/file.py:ClassName``, as in the config of its author."""
    source: str
    """The text of the file."""
    sha256: str
    """SHA-256 of the file, as the model file states it."""

    @property
    def file(self) -> str:
        """The path that the file had."""
        return self.name.rpartition(":")[0]

    @property
    def content(self) -> bytes:
        """The file."""
        return self.source.encode("utf-8", "surrogatepass")  # what is no text at all fails when it is imported


Trust = Callable[[Carried], bool]
"""Says whether the source of a part may be run."""

_carried: ContextVar[Mapping[str, Carried] | None] = ContextVar("carried", default=None)


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
    """A part as a model's card holds it.

    Parameters
    ----------
    name
        The part's name in the config.
    options
        Its options, all defaults included, as JSON.

    Returns
    -------
    dict
        ``name``, ``options``, and of a user's own file ``source`` (its text) and ``sha256``, which are None for a part of popdl's.
    """
    source = None
    if is_file(name):
        try:
            # Not read as text: line ends stay as they are, so that the hash of the text is that of the file.
            source = _path(name).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise PopdlError(f"{_path(name)}: expected Python source in UTF-8, found {error.reason}.") from None
    digest = None if source is None else hashlib.sha256(source.encode()).hexdigest()
    return {"name": name, "options": dict(options), "source": source, "sha256": digest}


def in_project(part: Carried) -> bool:
    """Trust what the user has put there: whether the very file lies at the part's path, seen from the working directory."""
    path = _file(part.name)
    return _lies_in_project(path) and path.is_file() and source_hash(part.name) == part.sha256


def refuse_changed(parts: Iterable[Carried], *, where: Path) -> list[Carried]:
    """Return the parts, or raise a :class:`PopdlError` if a source is not the one that its hash was taken of."""
    parts = list(parts)
    for part in parts:
        if hashlib.sha256(part.content).hexdigest() != part.sha256:
            raise PopdlError(
                f"{where}: the source of {part.name!r} does not have the SHA-256 that the model states, {part.sha256!r}: it was changed; "
                "get the model from its author again."
            )
    return parts


@contextmanager
def carried(parts: Iterable[Carried], *, trust: Trust, where: Path) -> Iterator[None]:
    """Inside, :func:`load` takes users' own parts from these sources alone, whatever lies at their paths.

    Parameters
    ----------
    parts
        The parts of a model file.
    trust
        Asked once for each file.
    where
        The model file, for messages.

    Raises
    ------
    PopdlError
        If a source is not the one that its hash was taken of, or is not trusted. No part has run then.
    """
    by_name: dict[str, Carried] = {}
    for part in refuse_changed(parts, where=where):
        if by_name.setdefault(part.name, part).source != part.source:
            raise PopdlError(f"{where}: it carries two different sources of {part.name!r}; get the model again.")
    for part in {part.sha256: part for part in by_name.values()}.values():
        if not trust(part):
            raise PopdlError(
                f"{where}: the model needs code of its author, {part.file!r} (SHA-256 {part.sha256}), which was not run; read it with "
                f"`popdl card {where} --source`, and if you trust it, `popdl predict --trust-plugin` runs it "
                "(a study's own jobs run it as long as this very file lies at that path)."
            )
    token = _carried.set(by_name)
    try:
        yield
    finally:
        _carried.reset(token)


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
        return _own(name, base)
    if name not in known(kind):
        raise PopdlError(
            f"{name!r} is not one of popdl's {kind.partition('.')[0]}; {suggestion(name, known(kind))}; or path/to/file.py:Class."
        )
    module = importlib.import_module(f"popdl.{kind}.{name}")
    parts = [
        value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__ and key[0] != "_"
    ]
    assert len(parts) == 1, f"{module.__name__} must define one public {base.__name__}, found {parts}"
    return parts[0]


class _Source(ExecutionLoader):
    """Imports a module from bytes that were read already: those that were hashed are those that run."""

    def __init__(self, content: bytes, filename: str) -> None:
        self.content = content
        self.filename = filename

    def get_filename(self, fullname: str) -> str:
        return self.filename

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content)


def _file(name: str) -> Path:
    """The file of a name, without "..": behind a link that would lead elsewhere than the path says."""
    return Path(os.path.normpath(name.rpartition(":")[0]))


def _lies_in_project(path: Path) -> bool:
    """Whether a path stays in the working directory; a link in there is its user's word, wherever it leads."""
    project = Path.cwd()
    return Path(os.path.normpath(project / path)).is_relative_to(project) or path.resolve().is_relative_to(project)


def _path(name: str) -> Path:
    path = _file(name)
    if not _lies_in_project(path):
        raise PopdlError(
            f"{name}: this file lies outside of the project ({Path.cwd()}), and was not run; copy it to its folder plugins/, or put a "
            "link to it there."
        )
    if not path.is_file():
        raise PopdlError(f"{name}: there is no file {path}; give its path from the project's root.")
    return path


def _content(name: str) -> tuple[bytes, str]:
    """The source behind a name, and what to call it in messages."""
    sources = _carried.get()
    if sources is None:
        path = _path(name)
        return path.read_bytes(), str(path)
    if name not in sources:
        raise PopdlError(f"the model file does not carry the source of {name!r}; get the model from its author again.")
    return sources[name].content, f"{sources[name].file} of the model file"


def _own(name: str, base: type[Part]) -> type[Part]:
    attribute = name.rpartition(":")[2]
    content, where = _content(name)
    module_name = f"popdl_plugin_{hashlib.sha256(content).hexdigest()}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_loader(module_name, _Source(content, where))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise PopdlError(f"{where}: the plugin cannot be imported: {type(error).__name__}: {error}.") from error
    part = getattr(module, attribute, None)
    if part is None:
        classes = [
            key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == module_name
        ]
        raise PopdlError(f"{where}: there is no {attribute!r} in this file; {suggestion(attribute, classes)}.")
    if not (isinstance(part, type) and issubclass(part, base)):
        raise PopdlError(f"{where}: {attribute} must be a subclass of {base.__module__}.{base.__name__}.")
    return part

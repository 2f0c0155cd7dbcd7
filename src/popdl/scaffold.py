"""`popdl new`: a working file to start from, and its test.

A kind of part is whatever ``templates/`` holds as ``<kind>.py.txt`` (or ``.yaml.txt``) and ``<kind>.test.txt``: to add one, add these two files.
"""

from __future__ import annotations

import re
from pathlib import Path

from popdl.errors import PopdlError
from popdl.files import write_text

__all__ = ["kinds", "new"]

TEMPLATES = Path(__file__).parent / "templates"
FOLDERS = {".yaml": "config", ".py": "plugins"}
"""Where a file of the project lies, by its ending."""
NAME = re.compile(r"[a-z][a-z0-9_]*")


def kinds() -> list[str]:
    """What there is a template for."""
    return sorted(path.name.removesuffix(".test.txt") for path in TEMPLATES.glob("*.test.txt"))


def new(kind: str, name: str, *, project: Path = Path()) -> tuple[Path, Path]:
    """Write the file to start from, and its test beside it.

    Parameters
    ----------
    kind
        One of :func:`kinds`.
    name
        Name of the file, in small letters, digits and ``_``; its class has the same name in capitals and without ``_``.
    project
        The project's root.

    Returns
    -------
    file, test : Path

    Raises
    ------
    PopdlError
        If the name is not one, or a file is there already. Nothing is written then.
    """
    if not NAME.fullmatch(name) or name.startswith("test_"):
        raise PopdlError(f"{name!r}: expected small letters, digits and _, beginning with a letter, e.g. my_{kind}.")
    (template,) = (path for path in TEMPLATES.glob(f"{kind}.*.txt") if not path.name.endswith(".test.txt"))
    ending = Path(template.stem).suffix
    file = project / FOLDERS[ending] / f"{name}{ending}"
    test = file.with_name(f"test_{name}.py")
    for path in (file, test):
        if path.exists():
            raise PopdlError(f"{path} is there already; choose another name, or move it away.")
    write_text(file, _filled(template, name))
    write_text(test, _filled(TEMPLATES / f"{kind}.test.txt", name))
    return file, test


def _filled(template: Path, name: str) -> str:
    title = "".join(word.capitalize() for word in name.split("_"))
    return template.read_text(encoding="utf-8").replace("MyPart", title).replace("my_part", name)

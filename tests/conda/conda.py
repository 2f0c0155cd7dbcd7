"""A stand-in for `conda`, for machines that cannot reach conda's channels: as much of it as Snakemake 9 calls.

`conda env create` reads the environment file and builds a virtual environment with the packages that it names, and no
others, from PyPI at the versions of requirements.lock. Anything that it does not know ends with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHANNELS = ["conda-forge", "bioconda", "nodefaults"]
PYPI_NAMES = {
    "matplotlib-base": "matplotlib",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-lightning": "lightning-fabric",  # conda-forge's package of that name holds both modules
    "snakemake-minimal": "snakemake",
}
"""Conda packages that PyPI knows under another name; all others have the same name in both."""


def requirements(environment: Path) -> dict[str, str]:
    """What an environment file asks for.

    Returns
    -------
    dict
        Release series (``1.4``) by PyPI name, ``python`` included.
    """
    content = yaml.safe_load(environment.read_text(encoding="utf-8"))
    if set(content) != {"channels", "dependencies"} or content["channels"] != CHANNELS:
        raise SystemExit(f"{environment}: expected channels {CHANNELS} and dependencies, found {content}")
    found: dict[str, str] = {}
    for dependency in content["dependencies"]:
        match = re.fullmatch(r"([a-z0-9_-]+) =([0-9.]+)", dependency) if isinstance(dependency, str) else None
        if match is None:
            raise SystemExit(f"{environment}: expected `name =series`, found {dependency!r}")
        name = PYPI_NAMES.get(match[1], match[1])
        if name in found:
            raise SystemExit(f"{environment}: {name} is there twice")
        found[name] = match[2]
    return found


def create(environment: Path, prefix: Path) -> None:
    """Build the environment; `pip --python` fills it from outside, so that not even pip is inside."""
    packages = requirements(environment)
    series = packages.pop("python")
    if series != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise SystemExit(f"{environment}: asks for Python {series}, but the stand-in runs {sys.version.split()[0]}")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python")]
    wanted = [f"{name}=={series}.*" for name, series in packages.items()]
    lock = os.path.relpath(REPOSITORY / "requirements.lock")
    subprocess.run([*pip, "install", "--quiet", "--no-compile", "--constraint", lock, *wanted], check=True)
    subprocess.run([*pip, "check"], check=True)


def main(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print("conda 25.1.0")
    elif arguments == ["info", "--json"]:
        print(json.dumps({"conda_prefix": os.environ["STAND_IN_CONDA"], "platform": "linux-64"}))
    elif arguments == ["config", "--get", "channel_priority", "--json"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif arguments[0] == "clean":
        pass  # pip leaves no archives behind
    elif arguments[:2] == ["env", "create"]:
        parser = argparse.ArgumentParser("conda env create", allow_abbrev=False)
        parser.add_argument("--quiet", action="store_true")
        parser.add_argument("--no-default-packages", action="store_true")
        parser.add_argument("--file", type=Path, required=True)
        parser.add_argument("--prefix", type=Path, required=True)
        options = parser.parse_args(arguments[2:])
        create(options.file, options.prefix)
    else:
        raise SystemExit(f"the stand-in for conda does not know: conda {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])

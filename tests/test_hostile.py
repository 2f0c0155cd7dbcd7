"""Files that someone made to do harm: nothing in them runs, nothing that they declare is allocated, one message says why.

What ``test_model.py``, ``test_cards.py``, ``test_store.py`` and ``test_config.py`` check of damaged files is not repeated here:
these files have every checksum right.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import learnable
import numpy as np
import pytest
from crafted import craft, edited, parts, with_header

from popdl import plugins, store
from popdl.cli import main
from popdl.config.study import load_study
from popdl.errors import PopdlError
from popdl.networks._base import Network
from popdl.plugins import Carried
from popdl.study_check import check_study

ALLOWED = 20 * 2**20
"""Bytes that a refusal may take: far below what the files declare, above what reading them takes."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return learnable.fit(learnable.dataset(folder), folder)["output"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path("ran").touch, ()


def refused(capfd: pytest.CaptureFixture[str], message: str, *arguments: object) -> None:
    """Run the command line, which must end with code 2 and one message, having run and allocated nothing."""
    tracemalloc.start()
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert message in said and said.count("ERROR") == 1 and "Traceback" not in said
    assert peak < ALLOWED
    assert not Path("ran").exists()


def header_of(model: Path, *, change: Callable[[dict[str, Any]], object]) -> tuple[str, bytes]:
    header, card, weights = parts(model)
    change(header)
    return json.dumps({"__metadata__": {"sha256": "0" * 64, "popdl": json.dumps(card)}, **header}), weights


BIAS = "heads.linear.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header[BIAS].update(shape=[2**38], data_offsets=[0, 2**40]), "overlap or leave gaps"),
        (lambda header: header[BIAS].update(shape=[2**60], data_offsets=[0, 2**62]), "description of tensor"),
        (lambda header: header[BIAS].update(shape=[-1, -(2**40)]), "description of tensor"),
        (lambda header: header[BIAS].update(shape=[10**4000] * 1000), "description of tensor"),
        (lambda header: header.update(other=header[BIAS]), "overlap or leave gaps"),
        (lambda header: header.update(other={"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}), "'other'"),
    ],
)
def test_headers_that_lie(
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    path = with_header(tmp_path / "model.safetensors", *header_of(model, change=change))
    if "'other'" in message:  # an empty tensor declares nothing, and is only one too many for the network
        with pytest.raises(PopdlError, match=message):
            loaded(path)
    else:
        refused(capfd, message, "card", path)


def loaded(path: Path) -> object:
    from popdl.model import load_model

    return load_model(path)


def test_a_header_longer_than_any_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}" + bytes(1000))
    refused(capfd, "expected a model file of popdl (.safetensors)", "card", path)


@pytest.mark.parametrize("key", ['"__metadata__": {}, ', f'"{BIAS}": {{}}, '])
def test_a_key_that_is_there_twice(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], key: str) -> None:
    """Two readers could believe different ones of the two."""
    text, weights = header_of(model, change=lambda header: None)
    path = with_header(tmp_path / "model.safetensors", text[0] + key + text[1:], weights)
    refused(capfd, "its header is not JSON: a key is there twice", "card", path)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_in_the_place_of_a_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.safetensors").write_bytes(pickle.dumps(Evil(), protocol=protocol) + bytes(100))
    refused(capfd, "expected a model file of popdl", "card", "model.safetensors")
    with pytest.raises(PopdlError, match="expected a model file of popdl"):
        loaded(Path("model.safetensors"))
    assert not Path("ran").exists()


def test_a_pickle_in_the_place_of_weights(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    header, card, weights = parts(model)
    evil = pickle.dumps(Evil()).ljust(len(weights), b"\0")[: len(weights)]
    card["weights_sha256"] = hashlib.sha256(evil).hexdigest()
    # It is a row of numbers, whatever it would be elsewhere.
    loaded(craft(Path("model.safetensors"), header, card, evil))
    assert not Path("ran").exists()
    header[BIAS]["dtype"] = "PICKLE"
    refused(capfd, "description of tensor", "card", craft(Path("model.safetensors"), header, card, evil))


def test_a_card_that_asks_for_a_billion_layers(model: Path, tmp_path: Path) -> None:
    """In a process of its own, which may take 1 GiB more than it has after importing torch."""
    network = {"key": "spidna", "name": "spidna", "options": {"num_blocks": 10**9}, "source": None, "sha256": None}
    path = edited(model, tmp_path / "model.safetensors", lambda card: card.update(network=network))
    script = (
        "import resource, sys; from pathlib import Path; import torch, popdl.module, popdl.networks.spidna\n"
        "from popdl.model import load_model; from popdl.errors import PopdlError\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30,) * 2)\n"
        "try: load_model(Path(sys.argv[1]))\n"
        "except PopdlError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120)
    assert "it has many more layers than the file has tensors" in done.stdout, done.stderr


# Plugins.

PLUGIN = "from pathlib import Path\nfrom popdl.networks._base import Network\nPath('ran').touch()\nclass Mine(Network): ...\n"


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file beside the project, which is the working directory."""
    (tmp_path / "project/plugins").mkdir(parents=True)
    (tmp_path / "outside.py").write_text(PLUGIN + f"# {tmp_path}\n")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "outside.py"


@pytest.mark.parametrize("name", ["../outside.py", "plugins/../../outside.py", "{absolute}", "link/../outside.py"])
def test_a_plugin_outside_of_the_project_is_not_run(outside: Path, name: str) -> None:
    file = name.format(absolute=outside)
    if name.startswith("link"):  # through the link, ".." is where the link leads
        (outside.parent / "elsewhere/folder").mkdir(parents=True)
        Path("link").symlink_to(outside.parent / "elsewhere/folder")
        (outside.parent / "elsewhere/outside.py").write_text(PLUGIN)
        expected = "there is no file outside.py"
    else:
        expected = (
            "lies outside of the project .* and was not run; copy it to its folder plugins/, or put a link to it there"
        )
    with pytest.raises(PopdlError, match=expected):
        plugins.load("networks", f"{file}:Mine", Network)
    part = Carried(f"{file}:Mine", PLUGIN, hashlib.sha256(outside.read_bytes()).hexdigest())
    assert not plugins.in_project(part)
    assert not Path("ran").exists()


def test_a_link_in_the_project_is_its_users_word(outside: Path) -> None:
    Path("plugins/mine.py").symlink_to(outside)
    assert plugins.load("networks", "plugins/mine.py:Mine", Network).__name__ == "Mine"
    assert plugins.load("networks", f"{Path.cwd()}/plugins/mine.py:Mine", Network).__name__ == "Mine"


def test_a_config_that_names_a_plugin_outside(outside: Path, root: Path) -> None:
    text = (root / "config/test.yaml").read_text()
    Path("study.yaml").write_text(text.replace("exchangeable: {}", f"mine: {{name: {outside}:Mine}}"))
    (problem,) = check_study(load_study("study.yaml"), config_only=True)
    assert "outside.py:Mine" in problem and "lies outside of the project" in problem
    assert not Path("ran").exists()


# Stores.


def rewritten(shard: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """Change files of a shard, and make its manifest right again."""
    content = {str(path.relative_to(shard)): path.read_bytes() for path in shard.rglob("*") if path.is_file()}
    manifest = json.loads(content.pop("manifest.json"))
    change(content)
    digests = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}
    manifest["files"] = dict(sorted(digests.items()))
    for name, data in content.items():
        if not Path(name).is_absolute() and ".." not in name:
            (shard / name).parent.mkdir(parents=True, exist_ok=True)
            (shard / name).write_bytes(data)
    return with_manifest(shard, manifest)


def with_manifest(shard: Path, manifest: dict[str, Any]) -> Path:
    manifest.pop("digest", None)
    text = json.dumps(manifest, sort_keys=True, indent=1) + "\n"
    manifest["digest"] = hashlib.sha256(text.encode()).hexdigest()
    (shard / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, indent=1) + "\n")
    return shard


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard_0"
    arrays = {"genotypes": np.ones((50, 4), np.int8), "positions": np.arange(50.0)}
    store.write_shard(path, kind="simulations", arrays=arrays, attributes={"num_examples": 1})
    return path


def declaring(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        metadata = json.loads(files["genotypes/zarr.json"])
        chunk = changes.pop("chunk", metadata["chunk_grid"]["configuration"]["chunk_shape"])
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunk
        files["genotypes/zarr.json"] = json.dumps(metadata | changes).encode()

    return change


def bomb(files: dict[str, bytes]) -> None:
    """A chunk that says of itself that it is as large as declared."""
    declaring(shape=[2**29, 4], chunk=[2**29, 4])(files)
    chunk = bytearray(files["genotypes/c/0/0"])
    chunk[4:8] = (2**31).to_bytes(4, "little")
    files["genotypes/c/0/0"] = bytes(chunk)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (declaring(shape=[2**40, 4]), r"declares 21990232556 chunks, found files of 1"),
        (declaring(shape=[2**40, 4], chunk=[2**40, 4]), "which its files do not hold"),
        (declaring(shape=[10**30, 10**30]), "declares .* chunks, found files of 1"),
        (declaring(shape=[-50, -4], chunk=[1, 1]), "its metadata cannot be read"),
        (declaring(chunk=[0, 4]), "its metadata cannot be read"),
        (declaring(data_type="float64"), "which its files do not hold"),
        (declaring(data_type="object"), "its metadata cannot be read"),
        (declaring(codecs=[{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]), "expected .*blosc"),
        (declaring(fill_value={"a": []}), "genotypes: "),
        (bomb, "which its files do not hold"),
        (lambda files: files.pop("genotypes/c/0/0"), "declares 1 chunks, found files of 0"),
    ],
)
def test_a_store_that_declares_what_it_does_not_hold(
    shard: Path, change: Callable[[dict[str, bytes]], object], message: str
) -> None:
    rewritten(shard, change)
    opened = store.read_shard(shard, kind="simulations")
    tracemalloc.start()
    try:
        with pytest.raises(PopdlError, match=message):
            opened["genotypes"]
        assert tracemalloc.get_traced_memory()[1] < ALLOWED
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["/dev/zero", "../../../../../../../../../dev/zero", "link"])
def test_a_manifest_that_names_files_elsewhere(shard: Path, name: str) -> None:
    (shard / "link").symlink_to("/dev/zero")
    manifest = json.loads((shard / "manifest.json").read_bytes())
    manifest["files"][name] = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    with pytest.raises(PopdlError, match=f"{name}, which does not lie in the shard|{name} has 0 bytes instead of 0"):
        store.verify_shard(with_manifest(shard, manifest))


@pytest.mark.parametrize("files", [{}, [], {"zarr.json": 3}, {"zarr.json": {"size": "x"}}, 7])
def test_a_manifest_of_another_form(shard: Path, files: Any) -> None:
    manifest = json.loads((shard / "manifest.json").read_bytes())
    with pytest.raises(PopdlError, match=r"shard_0: .*damaged"):
        store.verify_shard(with_manifest(shard, manifest | {"files": files}))


# Configs.


def exploding() -> str:
    """Ten lines that stand for 9¹¹ words."""
    names = [f"a{number}" for number in range(11)]
    lines = [f"a0: &a0 [{', '.join(['ha'] * 9)}]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]" for last, name in pairwise(names)]
    return "\n".join(["study: x", *lines])


CONFIGS = {
    "explodes": (exploding(), "stands for more than 100,000 values"),
    "tag": ("study: !!python/object/apply:pathlib.Path.touch [ran]\n", "could not determine a constructor"),
    "code": ("study: !!python/name:os.system\n", "could not determine a constructor"),
    "itself": ("study: &a [*a]\n", "contains itself"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_runs_or_explodes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text, message = CONFIGS[name]
    Path("study.yaml").write_text(text)
    refused(capfd, message, "check", "study.yaml")


@pytest.mark.slow
def test_snakemake_refuses_a_config_that_explodes(root: Path, tmp_path: Path) -> None:
    """Snakemake itself reads it: in a process that may take 4 GiB, of which it has mapped some by then."""
    (tmp_path / "study.yaml").write_text(exploding())
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(tmp_path)]
    done = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -v 4194304; exec "$@"',
            "-",
            *command,
            "--configfile",
            str(tmp_path / "study.yaml"),
            "-n",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "stands for more than 100,000 values" in done.stderr and "Traceback" not in done.stderr

"""Put the files that the published studies read into this folder: as a link, where another folder has them, or downloaded.

    python resources/get.py [--from FOLDER]

A file that is here already is left as it is. Needs no package.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGEL = "https://github.com/flag0010/pop_gen_cnn/raw/198f155d72632259a36dd7b6995136767a3254f2/theta/"
MAPS = "https://github.com/adimitromanolakis/geneticMap-GRCh37/raw/33008dd7aa8d84937a831d9b22806daf2c3e0662/"
FILES = {
    "theta.sims.txt.gz": (FLAGEL, "0980d5283ed1335f54a9ae8c5f2d4cb1050da73c85af684c71988d80c534b8ce"),
    "true.thetas.json": (FLAGEL, "31fb4cad2d2ed60a305c52004fd1aa8734ba51a005b0650f263df849414af965"),
    "genetic_map_GRCh37_chr20.txt.gz": (MAPS, "7bbfc01479287fd346d87d193cb10c037c7e1667006afc0192599c8f8b0e3f1c"),
}
"""Where each file lies on the web, and its SHA-256."""


def get(name: str, *, url: str, sha256: str, folder: Path | None, into: Path) -> str:
    """Put a file into a folder, and say how.

    Parameters
    ----------
    name
        Of the file.
    url
        Of the folder on the web that has it; ends with a slash.
    sha256
        Of its bytes.
    folder
        A folder of this machine that may have it, at any depth.
    into
        Where it goes.

    Raises
    ------
    OSError
        If it cannot be downloaded.
    ValueError
        If what was downloaded is another file.
    """
    target = into / name
    if target.exists():
        return "there already"
    target.unlink(missing_ok=True)  # a link to nowhere
    found = sorted(folder.rglob(name)) if folder else []
    for path in found:
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            target.symlink_to(path.resolve())
            return f"linked to {path}"
    with urllib.request.urlopen(url + name, timeout=60) as answer:
        content = answer.read()
    if (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"expected a file with SHA-256 {sha256}, found one with {digest}")
    partial = target.with_name(f"{name}.partial")
    partial.write_bytes(content)
    os.replace(partial, target)
    return f"downloaded from {url}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="folder", type=Path, help="folder that may have the files, at any depth")
    folder = parser.parse_args().folder
    for name, (url, sha256) in FILES.items():
        try:
            how = get(name, url=url, sha256=sha256, folder=folder, into=HERE)
        except (OSError, ValueError) as error:
            sys.exit(
                f"resources/{name}: not got from {url}{name}: {error}. Put it here by hand; resources/README.md says where it comes from."
            )
        print(f"resources/{name}: {how}")


if __name__ == "__main__":
    main()

"""Model files taken apart and put together again, with every checksum right: what an attacker would make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["craft", "edited", "parts", "with_header"]


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header without metadata, card and weights."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header.pop("__metadata__")["popdl"]), content[8 + length :]


def craft(path: Path, header: Any, card: Any, weights: bytes) -> Path:
    """Write a model file from its parts."""
    metadata = {"sha256": "0" * 64, "popdl": json.dumps(card)}
    return with_header(path, json.dumps({"__metadata__": metadata, **header}), weights)


def with_header(path: Path, text: str, weights: bytes) -> Path:
    """Write a model file from the text of its header, where 64 zeros stand for its SHA-256."""
    encoded = text.encode()
    encoded = encoded.replace(b"0" * 64, hashlib.sha256(encoded).hexdigest().encode(), 1)
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + weights)
    return path


def edited(path: Path, output: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Write a copy of a model whose card was edited."""
    header, card, weights = parts(path)
    edit(card)
    return craft(output, header, card, weights)

"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SLOWEST = (
    "test_workflow",
    "test_data_search",
    "test_search",
    "test_import_workflow",
    "test_processes",
    "test_streaming",
)
"""Files of minutes: begun last, they would be waited for by one process while the others have nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files."""
    items.sort(key=lambda item: item.path.stem not in SLOWEST)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """Real data that is read in place; a test that needs it is skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real data is not at {DATA}")
    return DATA


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For networks so small that threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""Fixtures shared by every room's tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest_plugins = ["tests.postgresql"]

settings.load_profile("default")  # with CI set, Hypothesis would try the same examples in every run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, or one of them would be left to a single process when all others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)

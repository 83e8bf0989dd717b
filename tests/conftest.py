"""Fixtures shared by every room's tests."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.postgresql"]

settings.load_profile("default")  # with CI set, Hypothesis would try the same examples in every run

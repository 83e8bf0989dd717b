"""Fixtures shared by every room's tests."""

from __future__ import annotations

pytest_plugins = ["tests.postgresql"]

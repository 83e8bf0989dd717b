"""What tells a process how to open the database: workers and labels never do, so they are not told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["OPENS_DATABASE", "without_credentials"]

OPENS_DATABASE: Final = "PG"
"""How the variables begin that PostgreSQL's library reads: ``PGPASSWORD``, ``PGPASSFILE``, ``PGHOST`` …"""


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what opens the database.

    Examples:
        >>> without_credentials({"PGPASSWORD": "secret", "HOME": "/root"})
        {'HOME': '/root'}
    """
    return {name: value for name, value in environment.items() if not name.startswith(OPENS_DATABASE)}

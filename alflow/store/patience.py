"""Waiting for a database that is away: a server that starts again, a file that somebody has locked, a full disk."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from alflow.errors import Unavailable

__all__ = ["NONE", "Patience"]

_T = TypeVar("_T")
_log = logging.getLogger("alflow")

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0


@dataclass(frozen=True)
class Patience:
    """How long to try again when the database is away.

    Attributes:
        total_s: From the first failure on, s; 0 to give up at once.
    """

    total_s: float

    def keep_trying(self, attempt: Callable[[], _T]) -> _T:
        """Call something until the database answers.

        Between two calls it waits, twice as long each time, and up to half of that more or less, so that many processes
        do not come back all at once.

        Args:
            attempt: What to do. It may have been done already when it seemed to fail, so it must do no harm twice.

        Raises:
            Unavailable: The database stayed away for ``total_s``.
        """
        began: float | None = None
        wait = FIRST_WAIT_S
        while True:
            try:
                result = attempt()
            except Unavailable as error:
                now = time.monotonic()
                if began is None and self.total_s > 0:
                    _log.warning("%s Trying again for %.0f s.", error, self.total_s)
                began = now if began is None else began
                if now - began >= self.total_s:
                    raise
                time.sleep(min(wait * random.uniform(0.5, 1.5), max(0.0, began + self.total_s - now)))
                wait = min(2 * wait, LONGEST_WAIT_S)
                continue
            if began is not None:
                _log.warning("The database is back after %.1f s.", time.monotonic() - began)
            return result


NONE: Final = Patience(0.0)
"""Gives up at once."""

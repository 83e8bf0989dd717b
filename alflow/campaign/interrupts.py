"""Ctrl-C and SIGTERM: the first asks for an end in good order, the second ends at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interruptible"]

log = logging.getLogger("alflow")


@contextmanager
def interruptible(request_stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM call a function, and the second end the process at once.

    Outside of the main thread, which alone hears signals, nothing is changed.

    Args:
        request_stop: Asks for the end; called inside of a signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log.warning("Stopping: tasks in flight may finish. Once more to end at once.")
        request_stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

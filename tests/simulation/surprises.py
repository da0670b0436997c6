"""What the real code logs in a history: nothing, but for errors that it does not expect."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Surprises(logging.Handler):
    """Takes every error that is logged with a stack trace for what it is."""

    def __init__(self, unexpected: Callable[[BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._unexpected = unexpected

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self._unexpected(record.exc_info[1])


@contextmanager
def silence(unexpected: Callable[[BaseException], None]) -> Iterator[None]:
    """Log nothing; a coroutine that its dead process never ran is no mistake here."""
    root, handler = logging.getLogger(), _Surprises(unexpected)
    handlers, root.handlers = root.handlers, [handler]
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        root.handlers = handlers
        logging.disable(disabled)

"""Items that are not what they should be: whoever reads them passes them over, and says so once."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000


class BrokenItems:
    """Logs and counts each broken item the first time it is met; ``count`` is called for it."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._known: OrderedDict[str, None] = OrderedDict()

    def met(self, item_id: str, reason: str) -> None:
        """Take note of one."""
        if item_id in self._known:
            return
        self._known[item_id] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        self._count()
        logger.error("broken item passed over", extra={"item_id": item_id, "reason": reason})

"""When a timer is due that is put again and again: a debounce."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from timers.timer import Spec, Timer


class Keep(StrEnum):
    """Which of two due times stays when a timer is asked for anew."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Putting:
    """
    What decides between the due times.

    ``keep`` chooses between the time that it is planned for and the new one (None: the new one); no choice
    puts it off for longer than ``max_total_delay_ms`` after it was created.
    """

    keep: Keep | None = None
    max_total_delay_ms: int | None = None

    def due(self, spec: Spec, before: Timer | None, now_ms: int) -> Spec:
        """Return what is asked for, due when it is to be."""
        due_at_ms = spec.due_at_ms
        if before is not None and self.keep is not None:
            choose = min if self.keep is Keep.EARLIEST else max
            due_at_ms = choose(before.next_attempt_at_ms, due_at_ms)
        if self.max_total_delay_ms is not None:
            created_at_ms = now_ms if before is None else before.created_at_ms
            due_at_ms = min(due_at_ms, created_at_ms + self.max_total_delay_ms)
        return replace(spec, due_at_ms=due_at_ms)


AS_ASKED: Final = Putting()

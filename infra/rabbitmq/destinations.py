"""Where messages of clients may go."""

from __future__ import annotations

import re
from dataclasses import dataclass

from timers.amqp import Destination

_ANY = "*"


@dataclass(frozen=True, slots=True)
class DestinationList:
    """Patterns of exchange and routing key, in each of which ``*`` is any number of any characters."""

    patterns: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> DestinationList:
        """Read a list such as ``orders/new.*, /mail``; ``*`` is every destination. Raises ValueError."""
        words = (word.strip() for word in text.split(","))
        return cls(tuple(_pattern(word) for word in words if word))

    def __contains__(self, to: Destination) -> bool:
        return any(
            exchange.fullmatch(to.exchange) and routing_key.fullmatch(to.routing_key)
            for exchange, routing_key in self.patterns
        )


def _pattern(word: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    exchange, slash, routing_key = word.partition("/")
    if not slash:
        if word != _ANY:
            raise ValueError(f"{word!r} is not exchange/routing-key (/queue where no exchange is named), and not *")
        routing_key = _ANY
    return _compiled(exchange), _compiled(routing_key)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split(_ANY)), re.DOTALL)

"""The states of a timer and every move between them: the one place that says what may happen when."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from timers.errors import IllegalTransition


class State(StrEnum):
    """Where a timer stands."""

    SCHEDULED = "scheduled"
    FIRING = "firing"
    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What may happen to a timer."""

    EDIT = "be edited"
    REPLACE = "be replaced"
    FIRE = "be fired"
    CANCEL = "be cancelled"
    EXPIRE = "expire"
    CLAIM = "be claimed"
    SUCCEED = "succeed"
    RETRY = "be retried"
    RELEASE = "be released"
    EXTEND = "be extended"
    LEASE_END = "lose its lease"
    GIVE_UP = "be given up"
    REPLAY = "be replayed"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.SCHEDULED: {
        Event.EDIT: State.SCHEDULED,
        Event.REPLACE: State.SCHEDULED,
        Event.FIRE: State.SCHEDULED,
        Event.CANCEL: State.CANCELLED,
        Event.EXPIRE: State.EXPIRED,
        Event.CLAIM: State.FIRING,
    },
    State.FIRING: {
        Event.SUCCEED: State.DELIVERED,
        Event.RETRY: State.SCHEDULED,
        Event.RELEASE: State.SCHEDULED,
        Event.EXTEND: State.FIRING,
        Event.LEASE_END: State.SCHEDULED,
        Event.GIVE_UP: State.DEAD,
    },
    State.DELIVERED: {},
    State.DEAD: {Event.REPLAY: State.SCHEDULED},
    State.CANCELLED: {},
    State.EXPIRED: {},
}

FINAL: Final = frozenset({State.DELIVERED, State.DEAD, State.CANCELLED, State.EXPIRED})
LIVE: Final = frozenset({State.SCHEDULED, State.FIRING})


def advance(state: State, event: Event) -> State:
    """Return the state that ``event`` leads to. Raises IllegalTransition where there is none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None

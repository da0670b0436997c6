"""Which moves are legal, listed by hand."""

from itertools import product

import pytest

from timers.errors import IllegalTransition
from timers.state import FINAL, LIVE, Event, State, advance

LEGAL = {
    (State.SCHEDULED, Event.EDIT): State.SCHEDULED,
    (State.SCHEDULED, Event.REPLACE): State.SCHEDULED,
    (State.SCHEDULED, Event.FIRE): State.SCHEDULED,
    (State.SCHEDULED, Event.CANCEL): State.CANCELLED,
    (State.SCHEDULED, Event.EXPIRE): State.EXPIRED,
    (State.SCHEDULED, Event.CLAIM): State.FIRING,
    (State.FIRING, Event.SUCCEED): State.DELIVERED,
    (State.FIRING, Event.RETRY): State.SCHEDULED,
    (State.FIRING, Event.RELEASE): State.SCHEDULED,
    (State.FIRING, Event.EXTEND): State.FIRING,
    (State.FIRING, Event.LEASE_END): State.SCHEDULED,
    (State.FIRING, Event.GIVE_UP): State.DEAD,
    (State.DEAD, Event.REPLAY): State.SCHEDULED,
}
ILLEGAL = [move for move in product(State, Event) if move not in LEGAL]


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_a_legal_move_leads_where_it_should(state: State, event: Event) -> None:
    assert advance(state, event) is LEGAL[state, event]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_move_is_refused_and_names_state_and_event(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition) as refusal:
        advance(state, event)
    assert (refusal.value.state, refusal.value.event) == (state, event)


def test_every_state_is_either_live_or_final() -> None:
    assert {State.SCHEDULED, State.FIRING} == LIVE
    assert {State.DELIVERED, State.DEAD, State.CANCELLED, State.EXPIRED} == FINAL


def test_only_a_replay_leads_out_of_a_final_state() -> None:
    assert [move for move in LEGAL if move[0] in FINAL] == [(State.DEAD, Event.REPLAY)]


def test_a_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(IllegalTransition, match=r"^a timer that is delivered cannot be cancelled$"):
        advance(State.DELIVERED, Event.CANCEL)

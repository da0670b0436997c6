"""What a worker answers for a lease with."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timers import limits
from timers.lease_token import KEY_BITS, LeaseToken

KEY = "00112233445566778899aabbccddeeff"
NAMES = st.from_regex(limits.ID_PATTERN, fullmatch=True)
KEYS = st.integers(0, 2**KEY_BITS - 1).map(lambda bits: f"{bits:032x}")


@given(NAMES, KEYS)
def test_a_token_reads_back_as_what_it_was_made_of(name: str, key: str) -> None:
    token = LeaseToken(name, key)
    assert LeaseToken.parse(str(token)) == token
    assert limits.ID_PATTERN.fullmatch(str(token).replace("_", "-")[:128]), "it travels in JSON and urls as it is"


@given(st.text(max_size=300))
def test_whatever_a_client_sends_is_a_token_or_none(text: str) -> None:
    token = LeaseToken.parse(text)
    assert token is None or str(token) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAAA",
        str(LeaseToken("timer", KEY)) + "=",
        str(LeaseToken("timer", KEY)) + "\n",
        base64.urlsafe_b64encode(bytes(16)).decode().rstrip("="),
        base64.urlsafe_b64encode(bytes(16) + b"acme/timer").decode().rstrip("="),
        base64.urlsafe_b64encode(bytes(16) + "ä".encode()).decode().rstrip("="),
        "A" * 400,
    ],
)
def test_what_is_no_token(text: str) -> None:
    assert LeaseToken.parse(text) is None


def test_a_key_is_not_shown_by_accident() -> None:
    assert KEY not in repr(LeaseToken("timer", KEY))

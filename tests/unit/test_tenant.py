"""Ids of tenants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timers import limits, tenant

NAMES = st.from_regex(limits.ID_PATTERN, fullmatch=True)
TENANTS = st.from_regex(tenant.PATTERN, fullmatch=True) | st.just(tenant.DEFAULT)


@given(TENANTS, NAMES)
def test_an_id_tells_its_tenant_and_its_name(owner: str, name: str) -> None:
    timer_id = tenant.qualified(owner, name)
    assert (tenant.tenant_of(timer_id), tenant.name_of(timer_id)) == (owner, name)


@given(TENANTS, NAMES, TENANTS, NAMES)
def test_ids_of_two_tenants_never_meet(one: str, first: str, other: str, second: str) -> None:
    same = tenant.qualified(one, first) == tenant.qualified(other, second)
    assert same == ((one, first) == (other, second))


@pytest.mark.parametrize("word", ["", "-acme", "Acme", "a/b", "a.b", "a" * 64, "ä"])
def test_what_is_no_tenant(word: str) -> None:
    assert not tenant.PATTERN.fullmatch(word)

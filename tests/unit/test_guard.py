"""The rules of whom a call may reach, without any network."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guard import AddressList, HostList, PortList, Rules

PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "9.255.255.255"]
PUBLIC_V6 = ["2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::1", "2001:200::1", "2620:0:1::1"]

CARRIERS = {
    "mapped": lambda v4: 0xFFFF << 32 | v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: 0xFFFF << 48 | v4,
    "NAT64": lambda v4: 0x64_FF9B << 96 | v4,
    "NAT64 of a site's own": lambda v4: 0x64_FF9B_0001 << 80 | v4,
    "6to4": lambda v4: 0x2002 << 112 | v4 << 80 | 1,
    "Teredo": lambda v4: 0x2001_0000 << 96 | v4 ^ 0xFFFF_FFFF,
    "ISATAP": lambda v4: 0x2620_0000 << 96 | 0x5EFE << 32 | v4,
    "ISATAP, global": lambda v4: 0x2620_0000 << 96 | 0x0200_5EFE << 32 | v4,
}


def allowing(text: str, deny: str = "") -> Rules:
    return Rules(allow_addresses=AddressList.parse(text), deny_addresses=AddressList.parse(deny))


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_what_the_internet_routes_is_public(address: str) -> None:
    assert allowing("public").admits(address)


@pytest.mark.parametrize("carrier", CARRIERS)
@given(v4=st.integers(256, 2**32 - 1))
def test_an_address_that_carries_another_is_not_public(carrier: str, v4: int) -> None:
    assert not allowing("public, private, loopback").admits(str(IPv6Address(CARRIERS[carrier](v4))))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(("inner", "admitted"), [("8.8.8.8", True), ("10.0.0.1", False), ("169.254.169.254", False)])
def test_where_carriers_are_allowed_what_they_carry_is_judged(carrier: str, inner: str, admitted: bool) -> None:
    address = IPv6Address(CARRIERS[carrier](int(IPv4Address(inner))))
    assert allowing("public, ::/0").admits(str(address)) is admitted


@given(st.text(max_size=20) | st.ip_addresses().map(str))
def test_only_an_address_in_its_usual_form_is_admitted(text: str) -> None:
    if allowing("0.0.0.0/0, ::/0").admits(text):
        assert str(ip_address(text))


@pytest.mark.parametrize(
    ("allow", "deny", "address", "admitted"),
    [
        ("", "", "8.8.8.8", False),
        ("loopback", "", "127.0.0.1", True),
        ("loopback", "", "::1", True),
        ("loopback", "", "8.8.8.8", False),
        ("private", "", "10.0.0.1", True),
        ("private", "", "172.31.0.1", True),
        ("private", "", "fd00::1", True),
        ("private", "", "127.0.0.1", False),
        ("private", "", "169.254.1.1", False),
        ("private", "", "fd00:ec2::254", False),
        ("public, fd00:ec2::254", "", "fd00:ec2::254", True),
        ("10.1.0.0/16", "", "10.1.2.3", True),
        ("10.1.0.0/16", "", "10.2.2.3", False),
        ("10.1.0.0/16, private", "10.1.2.0/24", "10.1.2.3", False),
        ("public", "8.8.8.8", "8.8.8.8", False),
        ("public", "public", "8.8.8.8", False),
        ("169.254.0.0/16", "", "169.254.169.254", False),
        ("169.254.169.254", "", "169.254.169.254", True),
        ("169.254.169.254", "169.254.0.0/16", "169.254.169.254", False),
        ("0.0.0.0/0", "", "10.0.0.1", True),
        ("0.0.0.0/0", "", "169.254.169.254", False),
        ("PUBLIC ,, private", "", "10.0.0.1", True),
    ],
)
def test_what_is_allowed_and_not_denied_is_admitted(allow: str, deny: str, address: str, admitted: bool) -> None:
    assert allowing(allow, deny).admits(address) is admitted


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.256", "example.com", "everything", "1.2.3.4-5", "::1%lo", "/8"])
def test_what_is_no_network_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' is not a network"):
        AddressList.parse(text)


@pytest.mark.parametrize("text", ["a*.example", "**", "*.", "exa mple", "bücher.example", "http://a", "a:80", "a..b"])
def test_what_is_no_pattern_of_host_names_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        HostList.parse(text)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("*", "anything.example", True),
        ("*", "127.0.0.1", True),
        ("a.example", "a.example", True),
        ("A.Example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("*.example", "a.example", True),
        ("*.example", "b.a.example", True),
        ("*.example", "example", False),
        ("*.example", "notexample", False),
        ("", "a.example", False),
    ],
)
def test_a_pattern_matches_a_name_or_all_below_it(pattern: str, host: str, matches: bool) -> None:
    assert (host in HostList.parse(pattern)) is matches


@pytest.mark.parametrize("text", ["0", "65536", "a", "1-", "-1", "2-1", "1-2-3", "1.5", "٣", "1_0", "9" * 30])
def test_what_is_no_range_of_ports_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|within"):
        PortList.parse(text)


def test_both_ends_of_a_range_of_ports_belong_to_it() -> None:
    ports = PortList.parse("80, 8000-8999")
    assert [port for port in (79, 80, 81, 7999, 8000, 8999, 9000) if port in ports] == [80, 8000, 8999]

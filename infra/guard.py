"""Whom a call may reach: rules on the url, and on the address that is dialled for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Sources: the registries of special-purpose addresses of IANA (RFC 6890), and for IPv6 that all global
# unicast there is lies in 2000::/3. Python's own is_global differs between its versions.
_GLOBAL_UNICAST: Final = ip_network("2000::/3")
_SPECIAL: Final = _networks(
    "0.0.0.0/8",  # this host
    "10.0.0.0/8",
    "100.64.0.0/10",  # carriers' NAT
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local, metadata of nearly every cloud
    "172.16.0.0/12",
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # relays of 6to4
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4
    "3fff::/20",  # documentation
)
_METADATA: Final = _networks(
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "169.254.0.0/16",
    "192.0.0.192/32",  # Oracle Cloud
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # Google Cloud
)
_WORDS: Final = {
    "loopback": _networks("127.0.0.0/8", "::1/128"),
    "private": _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
_LOW_96: Final = _networks(
    "::/96",  # IPv4-compatible
    "::ffff:0:0/96",  # IPv4-mapped
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64 of a site's own
)
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
_HOST: Final = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class AddressList:
    """Networks, and with ``public`` every address that the internet routes."""

    networks: tuple[Network, ...] = ()
    public: bool = False

    @classmethod
    def parse(cls, text: str) -> AddressList:
        """Read a list such as ``public, private, 192.0.2.0/24``. Raises ValueError."""
        networks: list[Network] = []
        words = _items(text)
        for word in words:
            if word != "public":
                networks += _WORDS.get(word) or (_network(word),)
        return cls(tuple(networks), "public" in words)

    def __contains__(self, address: Address) -> bool:
        return (self.public and _is_public(address)) or any(address in network for network in self.networks)

    def names(self, address: Address) -> bool:
        """Whether this very address is listed by itself."""
        return any(network.num_addresses == 1 and address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class HostList:
    """Host names; ``*.example.com`` is every name below example.com, ``*`` every name and address."""

    patterns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> HostList:
        """Read a list such as ``example.com, *.example.net``. Raises ValueError."""
        return cls(tuple(_pattern(word) for word in _items(text)))

    def __contains__(self, host: str) -> bool:
        return any(
            pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))
            for pattern in self.patterns
        )


@dataclass(frozen=True, slots=True)
class PortList:
    """Ranges of ports, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> PortList:
        """Read a list such as ``443, 8000-8999``. Raises ValueError."""
        return cls(tuple(_range(word) for word in _items(text)))

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be called: what is allowed and not denied."""

    allow_addresses: AddressList = AddressList(public=True)
    deny_addresses: AddressList = AddressList()
    allow_hosts: HostList = HostList(("*",))
    deny_hosts: HostList = HostList()
    allow_ports: PortList = PortList(((1, 65535),))
    allow_http: bool = False

    def refusal(self, scheme: str, host: str, port: int) -> str | None:
        """Return why a url is not to be called, None where it may be."""
        name = host.lower().rstrip(".")
        if scheme != "https" and not (self.allow_http and scheme == "http"):
            return f"plain {scheme} is not allowed"
        if port not in self.allow_ports:
            return f"port {port} is not allowed"
        if name in self.deny_hosts or name not in self.allow_hosts:
            return f"{host} is not allowed"
        return None

    def admits(self, text: str) -> bool:
        """Whether a connection to this address may be made, and to the IPv4 address that it carries, if any."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv4Address):
            return self._admits(address)
        inner = _carried(address)
        return not address.scope_id and self._admits(address) and (inner is None or self._admits(inner))

    def _admits(self, address: Address) -> bool:
        if address in self.deny_addresses:
            return False
        if any(address in network for network in _METADATA):
            return self.allow_addresses.names(address)
        return address in self.allow_addresses


def _is_public(address: Address) -> bool:
    if any(address in network for network in _SPECIAL):
        return False
    return isinstance(address, IPv4Address) or (address in _GLOBAL_UNICAST and not _is_isatap(address))


def _is_isatap(address: IPv6Address) -> bool:
    return int(address) >> 32 & 0xFFFF_FFFF in _ISATAP


def _carried(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address at which a packet to this one may come out."""
    if address.teredo is not None:
        return address.teredo[1]
    if address.sixtofour is not None:
        return address.sixtofour
    if _is_isatap(address) or any(address in network for network in _LOW_96 if int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _items(text: str) -> list[str]:
    return [word for word in (part.strip().lower() for part in text.split(",")) if word]


def _network(word: str) -> Network:
    try:
        if "%" not in word:
            return ip_network(word)
    except ValueError:
        pass
    raise ValueError(f"{word!r} is not a network, and not one of public, private, loopback")


def _pattern(word: str) -> str:
    if not _HOST.fullmatch(word):
        raise ValueError(f"{word!r} is not a host name, in ASCII (xn--…), with *. before it or not")
    return word


def _range(word: str) -> tuple[int, int]:
    low, dash, high = word.partition("-")
    if not (low.isascii() and low.isdigit() and (not dash or (high.isascii() and high.isdigit()))):
        raise ValueError(f"{word!r} is not a port or a range of ports")
    ends = int(low[:9]), int((high if dash else low)[:9])
    if not 1 <= ends[0] <= ends[1] <= 65535:
        raise ValueError(f"{word!r} is not within 1-65535")
    return ends

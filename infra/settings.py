"""Every setting, from ``TIMERS_…`` environment variables, read once at start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.guard import AddressList, HostList, PortList
from infra.rabbitmq.destinations import DestinationList
from infra.vault import parse_keys
from timers.keys import Token
from timers.signature import parse_secrets

PREFIX: Final = "TIMERS_"


class BadSettings(Exception):
    """The environment does not make sense; the message is one line."""


def _amqp(url: str) -> str:
    if urlsplit(url).scheme not in ("amqp", "amqps") or not urlsplit(url).hostname:
        raise ValueError("an amqp:// or amqps:// url")
    return url


def _endpoint(url: str) -> str:
    if url != "aws" and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ValueError("an http:// or https:// url, or the word aws")
    return url


def _addresses(text: str) -> str:
    AddressList.parse(text)
    return text


def _hosts(text: str) -> str:
    HostList.parse(text)
    return text


def _ports(text: str) -> str:
    PortList.parse(text)
    return text


def _destinations(text: str) -> str:
    DestinationList.parse(text)
    return text


def _secrets(text: SecretStr) -> SecretStr:
    parse_secrets(text.get_secret_value())
    return text


def _api_key(text: SecretStr) -> SecretStr:
    if text.get_secret_value() and Token.parse(text.get_secret_value()) is None:
        raise ValueError("timers_, 16 hex digits, _ and 43 letters and digits; ./setup.sh key create makes one")
    return text


def _keys(text: SecretStr) -> SecretStr:
    parse_keys(text.get_secret_value())
    return text


def _kms_key(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:/_-]{0,2048}", text):
        raise ValueError("the ARN, the id or an alias of a key")
    return text


Addresses = Annotated[str, AfterValidator(_addresses)]
Hosts = Annotated[str, AfterValidator(_hosts)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseModel):
    """Defaults serve one machine. Times are in seconds unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_host: str = Field("127.0.0.1", min_length=1, description="Address the api listens on.")
    api_port: Port = Field(8000, description="Port the api listens on.")
    api_workers: int = Field(1, ge=1, le=64, description="Processes that share the api's port.")
    api_pending: int = Field(
        2000, ge=1, le=100_000, description="Requests in progress per api process and tenant; more get 429."
    )
    api_connections: int = Field(
        4000, ge=1, le=100_000, description="Connections per api process; past that, idle ones make room."
    )
    api_patience: float = Field(
        30.0, ge=0.1, le=3600, description="How long a request's head, its body, or reading an answer may take."
    )
    tenant_rate: float = Field(
        0.0, ge=0, le=1_000_000, description="Requests a second per tenant and api process, batch items too; 0: any."
    )
    tenant_pending: int = Field(0, ge=0, le=1_000_000_000, description="Live timers per tenant; 0: any.")
    api_waiting: int = Field(
        1000, ge=1, le=100_000, description="Requests that wait for timers per api process and tenant; more get 429."
    )
    queue_capacity: int = Field(
        0, ge=0, le=1_000_000_000, description="Live timers in one pull queue, about; more get 429. 0: no end."
    )
    consumer_host: str = Field("127.0.0.1", min_length=1, description="Address of a consumer's health page.")
    consumer_port: int = Field(8100, ge=0, le=65535, description="Port of a consumer's health page; 0: none.")
    rabbitmq_url: Annotated[str, AfterValidator(_amqp)] = Field(
        "amqp://guest:guest@127.0.0.1:5672/%2F", description="The broker."
    )
    queue_type: Literal["quorum", "classic"] = Field("quorum", description="Type of every queue of the wheel.")
    lanes: int = Field(1, ge=1, le=64, description="How many wheels; the same for every process.")
    horizon: int = Field(
        3600, ge=2, le=3600, description="How far ahead timers are in the broker; the rest wait in the table."
    )
    dynamodb_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        "http://127.0.0.1:4566", description="The table's endpoint; `aws` is AWS itself."
    )
    dynamodb_region: str = Field("us-east-1", min_length=1, description="The table's region.")
    dynamodb_timeout: float = Field(3.0, ge=0.1, le=60, description="Longest wait for one table call.")
    table_patience: float = Field(
        8.0, ge=0.5, le=60, description="Longest wait for a read or write, retries included; then 503."
    )
    table_transactions: bool = Field(
        False,  # noqa: FBT003
        description="Whether writes that travel together are one transaction: faster where the table is one process "
        "(Dynoxide), twice the price on AWS.",
    )
    table: str = Field("timers", pattern=r"^[a-zA-Z0-9_.-]{3,255}$", description="The table's name.")
    shards: int = Field(16, ge=1, le=99, description="Partitions of the index; never change it on a table with timers.")
    retention_days: float = Field(7.0, gt=0, le=3650, description="How long final timers are kept.")
    concurrency: int = Field(200, ge=1, le=10_000, description="Calls at once per consumer.")
    target_concurrency: int = Field(50, ge=1, le=10_000, description="Calls at once per consumer and target host.")
    prefetch: int = Field(2000, ge=1, le=65_535, description="Due messages a consumer holds at most.")
    on_time: float = Field(1.0, ge=0, le=3600, description="Lateness up to which a call says that it is on time.")
    stop_timeout: float = Field(30.0, ge=0, le=600, description="How long a stop waits for calls in progress.")
    allow_addresses: Addresses = Field(
        "public", description="Whom calls may reach: networks, or the words `public`, `private`, `loopback`."
    )
    deny_addresses: Addresses = Field("", description="Whom they may not reach in spite of that, likewise.")
    allow_hosts: Hosts = Field("*", description="Host names that may be called: `example.com`, `*.example.com`.")
    deny_hosts: Hosts = Field("", description="Host names that may not in spite of that, likewise.")
    allow_ports: Annotated[str, AfterValidator(_ports)] = Field(
        "80,443,1024-65535", description="Ports that may be called."
    )
    allow_http: bool = Field(False, description="Whether a url may be plain http.")  # noqa: FBT003
    allow_amqp: Annotated[str, AfterValidator(_destinations)] = Field(
        "", description="Where messages may go: `exchange/routing-key`, `/queue`, with `*` for any; `*`: anywhere."
    )
    ca_file: str = Field("", description="Certificates to trust beside the system's, in PEM.")
    signing_secret: Annotated[SecretStr, AfterValidator(_secrets)] = Field(
        SecretStr(""), description="Signs calls: `whsec_…`, two with a comma between for a rotation."
    )
    api_key: Annotated[SecretStr, AfterValidator(_api_key)] = Field(
        SecretStr(""), description="A key that provisioning creates: of the default tenant, with scope admin."
    )
    encryption_keys: Annotated[SecretStr, AfterValidator(_keys)] = Field(
        SecretStr(""),
        description="Encrypts secrets: `id:` and the base64 of 32 bytes. Of several, with commas, the first encrypts.",
    )
    kms_key: Annotated[str, AfterValidator(_kms_key)] = Field(
        "", description="Key of AWS KMS that encrypts secrets instead: its ARN, its id or an alias."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["text", "json"] = Field("text", description="How it is logged.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings of an environment. Raises BadSettings where one is unknown or out of range."""
        given = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise BadSettings("; ".join(_describe(detail) for detail in error.errors())) from None


_SECRET: Final = frozenset({"api_key", "encryption_keys", "rabbitmq_url", "signing_secret"})


def _describe(detail: Mapping[str, object]) -> str:
    location = detail["loc"]
    assert isinstance(location, tuple)
    name = PREFIX + str(location[0]).upper()
    if detail["type"] == "extra_forbidden":
        return f"{name if name.isprintable() else ascii(name)}: there is no such setting"
    if location[0] in _SECRET:
        return f"{name}: {detail['msg']}"
    return f"{name}={detail['input']!r}: {detail['msg']}"

"""What is secret is in the call and nowhere else: not in table, broker, answers or logs, however the call fails."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pika
import pytest

from infra.dynamodb.client import Item, Table
from infra.rabbitmq.topology import Lane
from tests.end_to_end.client import Client, Json
from tests.end_to_end.workers import Queue
from tests.queues import Queues
from tests.receiver import Receiver, Reply
from tests.services import DynamoDB, RabbitMQ
from tests.stack import Member, Stack, open_client, stack

HEADER: Final = "header-7f3a"
BODY: Final = "body-7f3a"
QUERY: Final = "query-7f3a"
MARKS: Final = (HEADER, BODY, QUERY)
PATIENCE_S: Final = 30.0

TARGET: Final[Json] = {
    "headers": {"Authorization": f"Bearer {HEADER}", "cookie": f"a={HEADER}", "x-api-key": HEADER, "x-open": "open"},
    "secret_headers": ["X-Api-Key"],
    "body": {"card": BODY},
    "secret_body": True,
}
ONCE: Final[Json] = {"retry": {"max_attempts": 1}}


@pytest.fixture(scope="module")
def running(rabbitmq: RabbitMQ, dynamodb: DynamoDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(rabbitmq, dynamodb, tmp_path_factory.mktemp("stack"), TIMERS_LOG_LEVEL="debug") as built:
        yield built


@pytest.fixture(scope="module")
def api(running: Stack) -> Member:
    member = running.api(TIMERS_ALLOW_ADDRESSES="loopback,private")  # more than the consumer, which has the last word
    member.start()
    return member


@pytest.fixture(scope="module")
def consumers(running: Stack) -> list[Member]:
    member = running.consumer()
    member.start()
    return [member]


@pytest.fixture
async def alone(api: Member) -> AsyncIterator[Client]:
    """The api, with no consumer beside it that would not be there for another test."""
    async with open_client(api) as http:
        yield Client(http)


@pytest.fixture
async def table(running: Stack) -> AsyncIterator[Table]:
    endpoint, name = running.settings["TIMERS_DYNAMODB_ENDPOINT"], running.settings["TIMERS_TABLE"]
    async with Table(name, endpoint=endpoint, region="us-east-1", timeout=10) as client:
        yield client


@pytest.fixture
def logs(api: Member, consumers: list[Member]) -> Iterator[None]:
    """Whatever a test does, no log has a secret, a url's query, a header's value or a body in it."""
    yield
    for member in (api, *consumers):
        found = [line for line in member.log().splitlines() if any(mark in line for mark in MARKS)]
        assert found == []


async def items(table: Table) -> str:
    """Return everything that the table holds."""
    return json.dumps((await table.call("scan", TableName=table.name, ConsistentRead=True))["Items"])


# The first test: as yet no consumer takes what is in the broker.
async def test_neither_table_nor_broker_nor_answers_hold_a_secret(
    alone: Client, api: Member, table: Table, rabbitmq: RabbitMQ
) -> None:
    url = f"http://127.0.0.1:1024/?token={QUERY}"
    timer = await alone.schedule(url, 0, target=TARGET)
    far = await alone.schedule(url, 86_400, target=TARGET)
    edited = await alone.edit(far["id"], target={"headers": {"x-api-key": f"{HEADER}-2", "x-open": None}})
    again = {"idempotency-key": "order-42"}
    wish = {"delay": 86_400, "target": {"url": url, **TARGET}}
    replies = [(await alone.http.post("/v1/timers", json=wish, headers=again)).text for _ in range(2)]
    listed = (await alone.http.get("/v1/timers")).text
    cancelled = await alone.cancel(far["id"])

    assert edited["target"]["headers"] == {"authorization": "***", "cookie": "***", "x-api-key": "***"}
    assert (edited["target"]["body"], edited["target"]["secret_headers"]) == ("***", ["x-api-key"])
    for text in (str(timer), str(edited), str(cancelled), listed, *replies, await items(table)):
        assert HEADER not in text
        assert BODY not in text
    for message in hints(rabbitmq, 1):
        assert not any(mark in message for mark in MARKS)
    assert not any(mark in api.log() for mark in MARKS)


def hints(rabbitmq: RabbitMQ, count: int) -> list[str]:
    """Look at the messages that wait for a consumer, and leave them there."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    channel = connection.channel()
    found: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline
        method, properties, body = channel.basic_get(Lane(0).due)
        if body is not None:
            found.append(f"{method} {properties} {body.decode()}")
    connection.close()
    return found


async def test_a_call_has_its_secrets(client: Client, receiver: Receiver, logs: None) -> None:
    timer = await client.schedule(receiver.url("secret"), 0, target=TARGET)
    [call] = await receiver.wait("secret")
    sent = {name: call.headers[name] for name in ("authorization", "cookie", "x-api-key", "x-open")}
    assert sent == {"authorization": f"Bearer {HEADER}", "cookie": f"a={HEADER}", "x-api-key": HEADER, "x-open": "open"}
    assert json.loads(call.body) == {"card": BODY}
    delivered = await client.until(timer["id"], "delivered")
    assert HEADER not in str(delivered)
    assert BODY not in str(delivered)


async def test_a_secret_body_is_its_workers_and_nobody_elses(client: Client, table: Table, logs: None) -> None:
    queue = Queue(client.http, "secret-jobs")
    target = {"type": "queue", "queue": queue.name, "body": {"card": BODY}, "secret_body": True}
    timer = await client.create(target=target, delay=0)
    [lease] = await queue.lease(wait=10)
    assert lease["timer"]["target"]["body"] == {"card": BODY}
    leased = await client.read(timer["id"])
    assert leased["target"] == {**target, "body": "***"}
    assert await queue.reject(lease, delay=0) == [200]
    [again] = await queue.lease(wait=10)
    assert again["timer"]["target"]["body"] == {"card": BODY}
    assert await queue.commit(again) == [200]
    listed = (await client.http.get("/v1/timers", params={"queue": queue.name})).text
    for text in (str(timer), str(leased), listed, str(await client.read(timer["id"])), await items(table)):
        assert BODY not in text


async def test_a_message_has_its_secret_body(client: Client, table: Table, queues: Queues, logs: None) -> None:
    name = queues.new()
    target = {"type": "amqp", "routing_key": name, "body": {"card": BODY}, "secret_body": True}
    timer = await client.create(target=target, delay=0)
    assert json.loads((await queues.take(name)).body) == {"card": BODY}
    delivered = await client.until(timer["id"], "delivered")
    for text in (str(timer), str(delivered), await items(table)):
        assert BODY not in text


@asynccontextmanager
async def parrot(head: bytes, tail: bytes = b"") -> AsyncIterator[int]:
    """Give the port of a server that answers with what it was sent, not always in HTTP."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            _, _, fields = request.removesuffix(b"\r\n\r\n").partition(b"\r\n")
            secret = b" ".join(line.partition(b": ")[2] for line in fields.split(b"\r\n") if HEADER.encode() in line)
            writer.write(head.replace(b"REQUEST", request).replace(b"SECRET", secret) + tail)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


ECHOES: Final = {
    "the request": b"REQUEST",
    "a bad status line": b"HTTP/1.1 SECRET\r\n\r\n",
    "a bad header": b"HTTP/1.1 200 OK\r\nSECRET\r\n\r\n",
    "a header that is too long": b"HTTP/1.1 200 OK\r\nx: " + b"SECRET" * 1_000 + b"\r\n\r\n",
    "a bad length": b"HTTP/1.1 200 OK\r\ncontent-length: SECRET\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nSECRET\r\n\r\n",
    "a cut body": b"HTTP/1.1 500 No\r\nx-echo: SECRET\r\ncontent-length: 9999\r\n\r\nSECRET",
    "cut headers": b"HTTP/1.1 200 OK\r\nx-echo: SECRET\r\n",
    "bad cookies": b"HTTP/1.1 500 No\r\nset-cookie: SECRET\x01;;=SECRET\r\ncontent-length: 0\r\n\r\n",
    "a reason": b"HTTP/1.1 500 SECRET\r\ncontent-length: 0\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nlocation: http://SECRET/\r\ncontent-length: 0\r\n\r\n",
    "when to retry": b"HTTP/1.1 503 No\r\nretry-after: SECRET\r\ntimer-retry: SECRET\r\ncontent-length: 0\r\n\r\n",
}


async def dies(client: Client, url: str, **target: Any) -> Json:
    """Let a timer fail and return its one attempt, which tells nothing that is secret."""
    timer = await client.schedule(f"{url}?token={QUERY}", 0, target={**TARGET, **target}, **ONCE)
    dead = await client.until(timer["id"], "dead")
    [attempt] = dead["attempts"]
    assert not any(mark in str(attempt) for mark in MARKS)
    assert isinstance(attempt, dict)
    return attempt


@pytest.mark.parametrize("head", ECHOES.values(), ids=ECHOES)
async def test_a_target_that_sends_back_what_it_gets_puts_it_nowhere(client: Client, head: bytes, logs: None) -> None:
    async with parrot(head) as port:
        await dies(client, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1025/", "connection:"),
        ("http://10.1.2.3/", "address:"),
        ("http://nowhere.invalid/", "dns:"),
        ("ftp-like", None),
    ],
    ids=["refused", "not allowed", "no such name", "a server error"],
)
async def test_a_call_that_fails_tells_no_secret(
    client: Client, receiver: Receiver, url: str, error: str | None, logs: None
) -> None:
    if error is None:
        receiver.answer("fails", Reply(500, body=HEADER.encode()))
        assert (await dies(client, receiver.url("fails")))["status"] == 500
    else:
        assert (await dies(client, url))["error"].startswith(error)


async def test_a_call_that_takes_too_long_tells_no_secret(client: Client, receiver: Receiver, logs: None) -> None:
    receiver.answer("slow", Reply(never=True))
    assert (await dies(client, receiver.url("slow"), timeout=0.1))["error"].startswith("timeout:")


async def test_a_call_that_fails_in_tls_tells_no_secret(client: Client, receiver: Receiver, logs: None) -> None:
    attempt = await dies(client, receiver.url("tls").replace("http:", "https:"))
    assert attempt["error"].startswith("tls:")


async def change(table: Table, timer_id: str, spec: Json) -> None:
    item: Item = {"id": {"S": timer_id}}
    await table.call(
        "update_item",
        TableName=table.name,
        Key=item,
        UpdateExpression="SET #spec = :spec",
        ExpressionAttributeNames={"#spec": "spec"},
        ExpressionAttributeValues={":spec": {"S": json.dumps(spec)}},
    )


async def spec_of(table: Table, timer_id: str) -> Json:
    answer = await table.call("get_item", TableName=table.name, Key={"id": {"S": timer_id}}, ConsistentRead=True)
    spec: Json = json.loads(answer["Item"]["spec"]["S"])
    return spec


async def test_a_broken_item_tells_no_secret(client: Client, table: Table, logs: None) -> None:
    timer = await client.schedule(f"http://127.0.0.1:1024/?token={QUERY}", 1.5, target=TARGET)
    spec = await spec_of(table, timer["id"])
    await change(table, timer["id"], {**spec, "created_at_ms": f"{HEADER} {BODY} {QUERY}"})
    answer = await client.http.get(f"/v1/timers/{timer['id']}")
    fired = await client.schedule("http://127.0.0.1:1024/", 2, **ONCE)
    await client.until(fired["id"], "dead")  # by then the broken one was met as well

    assert answer.status_code == 500
    assert not any(mark in answer.text for mark in MARKS)


async def test_a_secret_that_cannot_be_opened_ends_the_attempt_with_a_reason(
    client: Client, table: Table, receiver: Receiver, logs: None
) -> None:
    timer = await client.schedule(receiver.url("unreadable"), 1.5, target=TARGET, **ONCE)
    spec = await spec_of(table, timer["id"])
    spec["target"]["secrets"]["authorization"] = "local.gone.AAAA"
    await change(table, timer["id"], spec)

    [attempt] = (await client.until(timer["id"], "dead"))["attempts"]
    assert attempt["error"] == "secret: the key 'gone' is not in TIMERS_ENCRYPTION_KEYS"
    assert not receiver["unreadable"]


REFUSED: Final[dict[str, Json]] = {
    "a line break": {"headers": {"authorization": f"{HEADER}\n"}},
    "a number": {"headers": {"authorization": [HEADER]}},
    "a bad url": {"url": f"http://a b/?token={QUERY}"},
    "a long url": {"url": f"http://a/?token={QUERY}" + "x" * 3_000},
    "a password": {"url": f"http://user:{HEADER}@example.com/"},
    "bad base64": {"body": None, "body_base64": f"{BODY}!"},
    "a long header": {"headers": {"authorization": HEADER * 1_000}},
    "no such header": {"secret_headers": ["x-other"]},
    "an unknown field": {"bodies": BODY},
}


@pytest.mark.parametrize("target", REFUSED.values(), ids=REFUSED)
async def test_a_request_that_is_refused_is_not_repeated_in_answer_or_log(
    client: Client, target: Json, logs: None
) -> None:
    wish = {"delay": 60, "target": {"url": f"http://127.0.0.1:1024/?token={QUERY}", **TARGET, **target}}
    answers = [
        await client.http.post("/v1/timers", json=wish),
        await client.http.post("/v1/timers/batch", json={"timers": [wish]}),
    ]
    assert "422" in answers[1].text
    assert answers[0].status_code == 422
    for answer in answers:
        assert not any(mark in answer.text for mark in MARKS)

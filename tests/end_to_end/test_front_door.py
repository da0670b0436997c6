"""Preconditions, lists, stats, and every kind of bad input."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import ANY
from uuid import uuid4

import pytest

from tests.end_to_end.client import Client, due_ms
from tests.receiver import Receiver

URL = "http://127.0.0.1:1024/never"
FAR = {"delay": 86_400, "target": {"url": URL}}


def problem(response: Any) -> dict[str, Any]:
    """Return a response's problem, checked to be one."""
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert {"type", "title", "detail"} <= set(body)
    return body


def pointers(response: Any) -> set[str]:
    return {error["pointer"] for error in problem(response)["errors"]}


async def test_an_id_of_the_clients_choice_is_taken_once(client: Client) -> None:
    chosen = f"order:{uuid4()}"
    first = await client.http.post("/v1/timers", json={"id": chosen, **FAR})
    second = await client.http.post("/v1/timers", json={"id": chosen, **FAR})
    assert (first.status_code, second.status_code) == (201, 409)
    assert first.json()["id"] == chosen
    problem(second)


async def test_if_match_lets_only_the_expected_version_change(client: Client) -> None:
    timer = await client.schedule(URL, 3600)
    path = f"/v1/timers/{timer['id']}"
    edited = await client.http.patch(path, json={"delay": 7200}, headers={"if-match": '"1"'})
    stale = await client.http.patch(path, json={"delay": 60}, headers={"if-match": '"1"'})
    cancelled = await client.http.delete(path, headers={"if-match": '"1"'})

    assert edited.headers["etag"] == '"2"'
    assert (stale.status_code, cancelled.status_code) == (412, 412)
    assert (await client.http.delete(path, headers={"if-match": '"1", "2"'})).status_code == 200
    repeated = await client.http.delete(path, headers={"if-match": '"2"'})
    assert (repeated.status_code, repeated.json()["state"]) == (200, "cancelled")


@pytest.mark.parametrize(
    ("if_match", "status"),
    [("*", 200), ('"1"', 200), ('W/"1"', 412), ('"abc"', 412), ('"7"', 412), ("1", 422), ("", 422), ('"1', 422)],
)
async def test_only_an_entity_tag_in_quotes_can_match(client: Client, if_match: str, status: int) -> None:
    timer = await client.schedule(URL, 3600)
    path = f"/v1/timers/{timer['id']}"
    response = await client.http.patch(path, json={"delay": 7200}, headers={"if-match": if_match})
    assert response.status_code == status


async def test_put_honours_its_preconditions(client: Client) -> None:
    path = f"/v1/timers/{uuid4()}"
    missing = await client.http.put(path, json=FAR, headers={"if-match": '"1"'})
    created = await client.http.put(path, json=FAR, headers={"if-none-match": "*"})
    exists = await client.http.put(path, json=FAR, headers={"if-none-match": "*"})
    replaced = await client.http.put(path, json=FAR, headers={"if-match": '"1"'})
    assert [r.status_code for r in (missing, created, exists, replaced)] == [412, 201, 412, 200]
    assert created.headers["location"] == path
    assert replaced.json()["created_at"] == created.json()["created_at"]


async def test_a_patch_merges_and_null_goes_back_to_the_default(client: Client) -> None:
    timer = await client.schedule(
        URL,
        3600,
        target={"headers": {"x-a": "1", "x-b": "2"}, "timeout": 5},
        labels={"k": "v"},
        retry={"max_attempts": 3},
    )
    edited = await client.edit(
        timer["id"], target={"headers": {"x-a": None, "x-c": "3"}, "timeout": None}, labels=None, retry=None
    )
    assert edited["target"]["headers"] == {"x-b": "2", "x-c": "3"}
    assert edited["target"]["timeout"] == 10
    assert edited["labels"] == {}
    assert edited["retry"]["max_attempts"] == 8
    assert edited["due_at"] == timer["due_at"]


async def test_lists_are_in_order_filtered_and_paged(client: Client) -> None:
    group = uuid4().hex
    timers = [await client.schedule(URL, 3600 + 10 * n, labels={"group": group, "odd": str(n % 2)}) for n in range(7)]
    await client.cancel(timers[6]["id"])

    async def listed(**query: Any) -> list[str]:
        ids, cursor = [], None
        while True:
            page = await client.http.get("/v1/timers", params=query | ({"cursor": cursor} if cursor else {}))
            assert page.status_code == 200, page.text
            ids += [timer["id"] for timer in page.json()["timers"]]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return ids

    ids = [timer["id"] for timer in timers]
    label = f"group:{group}"
    assert await listed(label=label, limit=2) == ids
    assert await listed(label=[label, "odd:1"]) == ids[1::2]
    assert await listed(label=label, state="scheduled") == ids[:6]
    assert await listed(label=label, state="cancelled") == ids[6:]
    assert await listed(label=label, due_after=timers[2]["due_at"], due_before=due_ms(timers[5])) == ids[2:5]


async def test_stats_count_what_there_is(client: Client, receiver: Receiver) -> None:
    timer = await client.schedule(receiver.url("counted"))
    await client.until(timer["id"], "delivered")
    stats = (await client.http.get("/v1/stats")).json()
    assert set(stats["counts"]) == {"scheduled", "firing", "delivered", "dead", "cancelled", "expired"}
    assert set(stats["lateness_ms"]) == {"p50", "p95", "p99", "max", "sample"}
    assert stats["overdue"] >= 0


async def test_unknown_timers_are_404(client: Client) -> None:
    for method, path in [
        ("GET", "/v1/timers/none"),
        ("PATCH", "/v1/timers/none"),
        ("DELETE", "/v1/timers/none"),
        ("POST", "/v1/timers/none/fire"),
        ("POST", "/v1/timers/none/replay"),
        ("GET", "/v1/timers/%23keeper.0"),
        ("DELETE", "/v1/timers/%23keeper.0"),
        ("GET", "/v1/timers/" + "x" * 129),
        ("GET", "/v1/timers/☃"),
        ("GET", "/nowhere"),
    ]:
        response = await client.http.request(method, path, json={} if method == "PATCH" else None)
        assert response.status_code == 404, path
        problem(response)


async def test_a_wrong_method_is_405(client: Client) -> None:
    response = await client.http.put("/v1/timers", json=FAR)
    assert response.status_code == 405
    problem(response)


TARGET = {"url": URL}
BAD = [
    ({"target": TARGET}, "/due_at"),
    ({"delay": 1, "due_at": 0, "target": TARGET}, "/due_at"),
    ({"delay": 1}, "/target"),
    ({"delay": 0.0001, "target": TARGET}, "/delay"),
    ({"delay": -1, "target": TARGET}, "/delay"),
    ({"delay": 1e308, "target": TARGET}, "/delay"),
    ({"delay": 10**400, "target": TARGET}, "/delay"),
    ({"delay": 11 * 366 * 86_400, "target": TARGET}, "/delay"),
    ({"delay": "P1Y", "target": TARGET}, "/delay"),
    ({"delay": "P99999W", "target": TARGET}, "/delay"),
    ({"delay": True, "target": TARGET}, "/delay"),
    ({"delay": [1], "target": TARGET}, "/delay"),
    ({"due_at": "2026-12-01T09:00:00", "target": TARGET}, "/due_at"),
    ({"due_at": "soon", "target": TARGET}, "/due_at"),
    ({"due_at": "2026-13-01T09:00:00Z", "target": TARGET}, "/due_at"),
    ({"due_at": -1, "target": TARGET}, "/due_at"),
    ({"due_at": 10**17, "target": TARGET}, "/due_at"),
    ({"due_at": 1.5, "target": TARGET}, "/due_at"),
    ({"due_at": "9999-01-01T00:00:00Z", "target": TARGET}, "/due_at"),
    ({"delay": 1, "target": TARGET, "colour": "red"}, "/colour"),
    ({"delay": 1, "target": TARGET | {"colour": "red"}}, "/target/colour"),
    ({"delay": 1, "target": {"url": 5}}, "/target/url"),
    ({"delay": 1, "target": {"url": None}}, "/target/url"),
    ({"delay": 1, "target": {"url": "ftp://example.com"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "/relative"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://a b/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://user:pw@example.com/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://example.com:99999/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://[::1/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://169.254.169.254/latest/meta-data/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://2852039166/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://[64:ff9b::7f00:1]/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://127.0.0.1:22/"}}, "/target/url"),
    ({"delay": 1, "target": {"url": "http://example.com/" + "x" * 2048}}, "/target/url"),
    ({"delay": 1, "target": TARGET | {"type": "ftp"}}, "/target/type"),
    ({"delay": 1, "target": TARGET | {"type": None}}, "/target/type"),
    ({"delay": 1, "target": TARGET | {"type": 1}}, "/target/type"),
    ({"delay": 1, "target": TARGET | {"type": "log"}}, "/target/url"),
    ({"delay": 1, "target": {"type": "log", "body": 1, "body_base64": ""}}, "/target/body_base64"),
    ({"delay": 1, "target": {"type": "http"}}, "/target/url"),
    ({"delay": 1, "target": "log"}, "/target"),
    ({"delay": 1}, "/target"),
    ({"delay": 1, "target": TARGET | {"method": "TRACE"}}, "/target/method"),
    ({"delay": 1, "target": TARGET | {"headers": {"a b": "c"}}}, "/target/headers/a b"),
    ({"delay": 1, "target": TARGET | {"headers": {"x": "a\r\nb: c"}}}, "/target/headers/x"),
    ({"delay": 1, "target": TARGET | {"headers": {"Content-Length": "1"}}}, "/target/headers/Content-Length"),
    ({"delay": 1, "target": TARGET | {"headers": {"webhook-id": "1"}}}, "/target/headers/webhook-id"),
    ({"delay": 1, "target": TARGET | {"headers": {f"x-{n}": "" for n in range(10_000)}}}, "/target/headers"),
    ({"delay": 1, "target": TARGET | {"body": "x" * (256 * 1024 + 1)}}, "/target/body"),
    ({"delay": 1, "target": TARGET | {"body_base64": "not base64!"}}, "/target/body_base64"),
    ({"delay": 1, "target": TARGET | {"body": 1, "body_base64": ""}}, "/target/body_base64"),
    ({"delay": 1, "target": TARGET | {"timeout": 0}}, "/target/timeout"),
    ({"delay": 1, "target": TARGET, "retry": {"max_attempts": 0}}, "/retry/max_attempts"),
    ({"delay": 1, "target": TARGET, "retry": {"jitter": 2}}, "/retry/jitter"),
    ({"delay": 1, "target": TARGET, "retry": {"min_backoff": 9, "max_backoff": 1}}, "/retry/max_backoff"),
    ({"delay": 1, "target": TARGET, "labels": {"a": 1}}, "/labels/a"),
    ({"delay": 1, "target": TARGET, "labels": {f"l{n}": "" for n in range(33)}}, "/labels"),
    ({"delay": 1, "target": TARGET, "id": "a/b"}, "/id"),
    ({"delay": 1, "target": TARGET, "id": "#keeper.0"}, "/id"),
    ([], ""),
    ("x", ""),
    (None, ""),
]


@pytest.mark.parametrize(("body", "pointer"), BAD, ids=[f"{n}-{pointer}" for n, (_, pointer) in enumerate(BAD)])
async def test_a_bad_field_is_named(client: Client, body: object, pointer: str) -> None:
    response = await client.http.post("/v1/timers", json=body)
    assert response.status_code == 422, response.text
    assert pointer in pointers(response)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b'{"delay": NaN}', 400),
        (b'{"delay": Infinity}', 400),
        (b'{"delay": 1, "target": {"url": "http://x/", "body": "\\ud800"}}', 400),
        (b'{"delay": 1, "target": {"url": "http://x/", "body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400),
        (b"\xff\xfe", 400),
        (b'{"delay": 1e999, "target": {"url": "http://x/"}}', 400),
        (b'{"delay": ' + b"9" * 5_000 + b"}", 400),
        (b'"' + b"x" * (1024 * 1024) + b'"', 413),
    ],
    ids=["empty", "cut", "nan", "infinity", "surrogate", "deep", "not-utf8", "1e999", "digits", "huge"],
)
async def test_what_is_no_json_or_too_much_is_refused(client: Client, raw: bytes, status: int) -> None:
    response = await client.http.post("/v1/timers", content=raw, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    problem(response)


@pytest.mark.parametrize(
    ("method", "path", "wrap"),
    [
        ("POST", "", '{{"delay": 1, "target": {{"url": "http://127.0.0.1/", "body": {}}}}}'),
        ("PUT", "/deep", '{{"delay": 1, "target": {{"url": "http://127.0.0.1/", "body": {}}}}}'),
        ("PATCH", "/{id}", '{{"target": {{"body": {}}}}}'),
        ("POST", "/batch", '{{"timers": [{{"delay": 1, "target": {{"url": "http://127.0.0.1/", "body": {}}}}}]}}'),
        ("POST", "/batch-cancel", '{{"ids": {}}}'),
    ],
)
async def test_json_is_nested_up_to_a_bound(client: Client, method: str, path: str, wrap: str) -> None:
    timer = await client.schedule(URL, 3600)

    async def send(depth: int) -> Any:
        raw = wrap.format('[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2))
        headers = {"content-type": "application/json"}
        return await client.http.request(method, "/v1/timers" + path.format(**timer), content=raw, headers=headers)

    assert (await send(96)).status_code in (200, 201, 422)  # 422: a list within a list is no id
    for depth in (100, 10_000):
        refused = await send(depth)
        assert "nested" in problem(refused)["detail"]
        assert refused.status_code == 400
    assert (await client.read(timer["id"]))["state"] == "scheduled"


async def test_another_content_type_is_refused(client: Client) -> None:
    response = await client.http.post("/v1/timers", data={"delay": "1"})
    assert response.status_code == 415
    problem(response)


async def test_too_many_request_headers_are_refused(client: Client) -> None:
    headers = {f"x-{number}": "1" for number in range(10_000)}
    response = await client.http.get("/v1/timers", headers=headers)
    assert response.status_code in (400, 431)
    assert (await client.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "state=red", "due_after=soon", "label=x", "cursor=x", "cursor=eyJ9", "who=me"],
)
async def test_a_bad_query_is_named(client: Client, query: str) -> None:
    response = await client.http.get(f"/v1/timers?{query}")
    assert response.status_code == 422
    assert query.split("=", maxsplit=1)[0] in next(iter(pointers(response)))


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"delay": -1}, "/delay"),
        ({"state": "delivered"}, "/state"),
        ({"id": "other"}, "/id"),
        ({"target": {"url": "ftp://x"}}, "/target/url"),
        ({"target": {"url": "http://10.0.0.1/"}}, "/target/url"),
        ({"target": None}, "/target"),
        ({"target": {"type": "fax"}}, "/target/type"),
        ({"target": {"type": "log", "url": "http://x/"}}, "/target/url"),
        ({"due_at": None}, "/due_at"),
        ({"due_at": 5, "delay": 5}, "/due_at"),
        ([1], ""),
    ],
)
async def test_a_bad_patch_changes_nothing(client: Client, patch: object, pointer: str) -> None:
    timer = await client.schedule(URL, 3600)
    response = await client.http.patch(f"/v1/timers/{timer['id']}", json=patch)
    assert response.status_code == 422, response.text
    assert pointer in pointers(response)
    assert await client.read(timer["id"]) == timer | {"remaining": ANY}


async def test_unicode_everywhere_is_kept(client: Client, receiver: Receiver) -> None:
    text = 'Zoë ☃ \u202e 𝄞 \x00 \\ "'
    timer = await client.schedule(
        receiver.url("unicode"), target={"body": {text: [text]}}, labels={"k": text, text.replace(":", ""): "v"}
    )
    [call] = await receiver.wait("unicode")
    assert text in json.loads(call.body)
    assert (await client.read(timer["id"]))["labels"]["k"] == text


async def test_the_openapi_document_is_complete(client: Client) -> None:
    document = (await client.http.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/timers",
        "/v1/timers/batch",
        "/v1/timers/batch-cancel",
        "/v1/timers/{timer_id}",
        "/v1/timers/{timer_id}/fire",
        "/v1/timers/{timer_id}/replay",
        "/v1/queues",
        "/v1/queues/{queue}",
        "/v1/queues/{queue}/lease",
        "/v1/queues/{queue}/commit",
        "/v1/queues/{queue}/reject",
        "/v1/queues/{queue}/extend",
        "/v1/queues/{queue}/pause",
        "/v1/queues/{queue}/resume",
        "/v1/queues/{queue}/purge",
        "/v1/stats",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    assert document["components"]["schemas"]["NewTimerIn"]["examples"]
    assert (await client.http.get("/docs")).status_code == 200


async def test_a_request_repeated_under_its_key_is_done_once(client: Client, receiver: Receiver) -> None:
    headers = {"idempotency-key": str(uuid4())}
    body = {"delay": 0.5, "target": {"url": receiver.url("keyed"), "body": {"a": 1, "b": 2}}}
    answers = await asyncio.gather(*(client.http.post("/v1/timers", json=body, headers=headers) for _ in range(20)))
    [timer] = {answer.json()["id"] for answer in answers}
    await client.until(timer, "delivered")
    again = await client.http.post("/v1/timers", json=body, headers=headers)

    assert {answer.status_code for answer in (*answers, again)} == {201}
    assert {answer.text for answer in (*answers, again)} == {again.text}
    assert again.headers["location"] == f"/v1/timers/{timer}"
    assert len(receiver["keyed"]) == 1


async def test_a_key_with_another_request_is_refused(client: Client) -> None:
    headers = {"idempotency-key": str(uuid4())}
    first = await client.http.post("/v1/timers", json=FAR, headers=headers)
    other = await client.http.post("/v1/timers", json={**FAR, "delay": 5}, headers=headers)
    assert (first.status_code, other.status_code) == (201, 422)
    assert "Idempotency-Key" in problem(other)["detail"]


async def test_a_key_goes_with_an_id_of_the_clients_choice(client: Client) -> None:
    headers = {"idempotency-key": str(uuid4())}
    body = {"id": str(uuid4()), **FAR}
    first, second = [await client.http.post("/v1/timers", json=body, headers=headers) for _ in range(2)]
    unkeyed = await client.http.post("/v1/timers", json=body)
    assert (first.status_code, second.status_code, unkeyed.status_code) == (201, 201, 409)
    assert first.text == second.text


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_bounds(client: Client, key: str) -> None:
    response = await client.http.post("/v1/timers", json=FAR, headers={"idempotency-key": key})
    assert response.status_code == 422
    problem(response)

"""The request that a target gets."""

from random import Random

import pytest

from tests.builders import NOW_MS, make_target, make_timer
from timers.amqp import AmqpTarget, Destination
from timers.body import Body, BodyKind
from timers.call import VERSION, action_for, call_for
from timers.ports import Call, Echo, Message
from timers.signature import sign
from timers.target import LogTarget, Target
from timers.timer import Timer

LONG = Body(BodyKind.TEXT, "a" * 5_000)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def call(timer: Timer, started_at_ms: int = NOW_MS) -> Call:
    return call_for(timer, started_at_ms=started_at_ms, random=Random(1))


def test_every_call_says_which_timer_it_is_and_when_it_was_due() -> None:
    timer = make_timer("order-42", next_attempt_at_ms=NOW_MS + 5_000, attempts_made=2)
    assert call(timer, NOW_MS + 5_003).headers == {
        "user-agent": f"timers/{VERSION}",
        "webhook-id": "order-42",
        "webhook-timestamp": "1800000005",
        "timer-attempt": "3",
        "timer-due-at": "2027-01-15T08:00:00.000Z",
        "timer-lateness-ms": "3",
        "timer-status": "on-time",
    }


def test_a_tenants_timer_is_called_and_signed_by_its_name() -> None:
    secrets = (b"a" * 24,)
    made = call_for(make_timer("acme/order-42"), started_at_ms=NOW_MS, random=Random(1), secrets=secrets)
    assert made.headers["webhook-id"] == "order-42"
    assert made.headers["webhook-signature"] == sign(secrets, "order-42", NOW_MS // 1000, b"")


def test_a_call_is_what_the_client_asked_for() -> None:
    target = make_target(url="http://a.example/b", method="PUT", headers={"x-team": "billing"}, timeout=2.5)
    made = call(make_timer(target=target))
    assert (made.url, made.method, made.timeout, made.content) == ("http://a.example/b", "PUT", 2.5, None)
    assert made.headers["x-team"] == "billing"
    assert "content-type" not in made.headers


@pytest.mark.parametrize(("late_ms", "status"), [(0, "on-time"), (20, "on-time"), (21, "delayed")])
@pytest.mark.parametrize("target", [make_target(), AmqpTarget(Destination("", "orders"))])
def test_lateness_is_told_as_a_word(target: Target, late_ms: int, status: str) -> None:
    made = action_for(make_timer(target=target), started_at_ms=NOW_MS + late_ms, random=Random(1), on_time_ms=20)
    assert isinstance(made, (Call, Message))
    assert made.headers["timer-status"] == status


def test_a_line_of_the_log_says_which_timer_and_how_late() -> None:
    timer = make_timer("order-42", target=LogTarget(Body(BodyKind.JSON, '{"a":1}')), attempts_made=2)
    made = action_for(timer, started_at_ms=NOW_MS + 7, random=Random(1))
    assert made == Echo("order-42", '{"a":1}', attempt=3, lateness_ms=7)


def test_a_line_of_the_log_is_bounded() -> None:
    made = action_for(make_timer(target=LogTarget(LONG)), started_at_ms=NOW_MS, random=Random(1))
    assert isinstance(made, Echo)
    assert made.text == "a" * 4_096


@pytest.mark.parametrize(
    ("body", "content", "content_type"),
    [
        (Body(BodyKind.JSON, '{"a":"é"}'), b'{"a":"\xc3\xa9"}', "application/json"),
        (Body(BodyKind.TEXT, "é"), b"\xc3\xa9", "text/plain; charset=utf-8"),
        (Body(BodyKind.BASE64, "AP8="), b"\x00\xff", "application/octet-stream"),
    ],
)
def test_a_body_brings_its_content_type(body: Body, content: bytes, content_type: str) -> None:
    made = call(make_timer(target=make_target(body=body)))
    assert (made.content, made.headers["content-type"]) == (content, content_type)


def test_the_client_may_choose_content_type_user_agent_and_trace() -> None:
    chosen = {"content-type": "text/csv", "user-agent": "mine", "traceparent": TRACE}
    target = make_target(body=Body(BodyKind.TEXT, "a,b"), headers=chosen)
    assert chosen.items() <= call(make_timer(target=target, trace=TRACE.replace("0a", "0b"))).headers.items()


def test_a_trace_is_continued_with_a_span_of_our_own() -> None:
    version, trace_id, span, flags = call(make_timer(trace=TRACE)).headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span != "b7ad6b7169203331"
    assert len(span) == 16


def test_the_timers_own_headers_are_left_alone() -> None:
    target = make_target(headers={"x": "y"})
    call(make_timer(target=target))
    assert target.headers == {"x": "y"}


@pytest.mark.parametrize(("body", "content"), [(None, b""), (Body(BodyKind.BASE64, "AP8="), b"\x00\xff")])
def test_a_signature_covers_id_time_and_body(body: Body | None, content: bytes) -> None:
    secrets = (b"a" * 24, b"b" * 24)
    timer = make_timer("order-42", target=make_target(body=body))
    made = call_for(timer, started_at_ms=NOW_MS + 999, random=Random(1), secrets=secrets)
    assert made.headers["webhook-timestamp"] == str(NOW_MS // 1000)
    assert made.headers["webhook-signature"] == sign(secrets, "order-42", NOW_MS // 1000, content)

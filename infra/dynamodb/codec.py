"""A timer as an item and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from infra.dynamodb.client import Item
from infra.dynamodb.schema import QUEUE_SHARDS, partition, queue_key, shard_key, tenant_key
from infra.dynamodb.soundness import is_sound
from infra.dynamodb.statements import GONE
from timers import limits
from timers.amqp import AmqpTarget, Destination
from timers.body import Body, BodyKind
from timers.errors import BrokenTimer, Invalid
from timers.retry import RetryPolicy
from timers.secret import Sealed, Secret
from timers.state import State
from timers.target import HttpTarget, LogTarget, QueueTarget, Target
from timers.tenant import DEFAULT
from timers.timer import Attempt, Lease, Timer
from timers.wheel import slot

_NEVER: Final = 253_402_300_799  # the year 9999, in seconds: a replayed timer must not expire
_ROOM_FOR_HISTORY: Final = 24_000


def encode(timer: Timer, *, shards: int, retention_ms: int) -> Item:
    """Return the item of a timer, without what says nothing. Raises Invalid where it would be too large."""
    item = _whole(timer, shards, retention_ms)
    if timer.next_attempt_at_ms == timer.due_at_ms and timer.lease is None:  # then it is ``at_ms``, live or final
        del item["next_attempt_at_ms"]
    return {name: value for name, value in item.items() if _SILENT.get(name) != value}


def changes(before: Timer, after: Timer, *, shards: int, retention_ms: int) -> Item:
    """Return the attributes that differ, those that went as GONE. Raises Invalid where the item would be too large."""
    old, new = _moving(before, shards, retention_ms), _moving(after, shards, retention_ms)
    gone: Item = {name: GONE for name in old if name not in new}
    if _asked(after) != _asked(before):
        item = _whole(after, shards, retention_ms)
        del item["id"]
        return item | gone
    changed = gone | {name: value for name, value in new.items() if old.get(name) != value}
    if "at_ms" in changed:  # the time of the next attempt is stored only where it is another one
        changed["next_attempt_at_ms"] = new["next_attempt_at_ms"]
    if after.attempts != before.attempts:
        changed["attempts"] = {"S": _attempts_text(after)}
    return changed


def decode(item: Mapping[str, Any]) -> Timer:
    """Return the timer of an item. Raises BrokenTimer."""
    try:
        return _decode(item)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        # not the error itself: it may have a part of the item in it
        raise BrokenTimer(f"the item {item.get('id')!r} is not a timer: {type(error).__name__}") from None


def _decode(item: Mapping[str, Any]) -> Timer:
    spec = _parsed(item["spec"]["S"])
    at_ms = int(item["at_ms"]["N"])
    timer = Timer(
        id=item["id"]["S"],
        state=State(item["state"]["S"]),
        version=int(item["version"]["N"]),
        due_at_ms=int(item["due_at_ms"]["N"]),
        next_attempt_at_ms=int(item["next_attempt_at_ms"]["N"]) if "next_attempt_at_ms" in item else at_ms,
        target=_target(spec["target"]),
        retry=RetryPolicy(*spec["retry"]),
        labels=spec["labels"],
        created_at_ms=int(spec["created_at_ms"]),
        updated_at_ms=int(item["updated_at_ms"]["N"]),
        attempts=tuple(Attempt(*fields) for fields in _parsed(item["attempts"]["S"])) if "attempts" in item else (),
        attempts_made=int(item.get("attempts_made", _ZERO)["N"]),
        lease_until_ms=int(item.get("lease_until_ms", _ZERO)["N"]),
        trace=spec["trace"],
        request=Sealed(str(spec["sealed_request"])) if "sealed_request" in spec else spec.get("request"),
        lease=_lease(item),
    )
    if timer.listed_at_ms != at_ms or not is_sound(timer):
        raise ValueError("a value is out of bounds")
    return timer


def _parsed(text: str) -> Any:
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can only be written as an escape
    return value


def _lease(item: Mapping[str, Any]) -> Lease | None:
    started_at_ms, _, key = item.get("lease", _EMPTY)["S"].partition(" ")
    return Lease(key, int(started_at_ms)) if started_at_ms else None


def _target(fields: Mapping[str, Any]) -> Target:
    given = fields.get("body")
    body = Body(BodyKind(given[0]), given[1]) if given else None
    secrets = {name: Sealed(str(token)) for name, token in fields.get("secrets", {}).items()}
    match fields.get("type", HttpTarget.type):
        case HttpTarget.type:
            return HttpTarget(
                fields["url"],
                fields["method"],
                fields["headers"],
                body,
                fields["timeout"],
                secrets,
                fields.get("signing_key"),
            )
        case AmqpTarget.type:
            return _amqp_target(fields, body, secrets)
        case LogTarget.type:
            return LogTarget(body)
        case QueueTarget.type:
            return QueueTarget(fields["queue"], body, secrets)
        case other:
            raise ValueError(f"no target has the type {other!r}")


def _amqp_target(fields: Mapping[str, Any], body: Body | None, secrets: Mapping[str, Secret]) -> AmqpTarget:
    dead_letter = fields.get("dead_letter")
    return AmqpTarget(
        to=Destination(*fields["to"]),
        headers=fields["headers"],
        properties=fields["properties"],
        body=body,
        redeliveries_left=fields.get("redeliveries_left"),
        dead_letter=Destination(*dead_letter) if dead_letter else None,
        secrets=secrets,
    )


def _whole(timer: Timer, shards: int, retention_ms: int) -> Item:
    spec = _spec_text(timer)
    if len(spec.encode()) + len(timer.id) > limits.MAX_ITEM_BYTES - _ROOM_FOR_HISTORY:
        raise Invalid("", "the timer as a whole is larger than 400 KB")
    return {
        "id": {"S": timer.id},
        "spec": {"S": spec},
        "attempts": {"S": _attempts_text(timer)},
        **_moving(timer, shards, retention_ms),
    }


def _asked(timer: Timer) -> tuple[object, ...]:
    return timer.target, timer.retry, timer.labels, timer.trace, timer.created_at_ms, timer.request


def _moving(timer: Timer, shards: int, retention_ms: int) -> Item:
    """Return the attributes that moves change, cheap to compare."""
    final = timer.final
    shard = shard_key(partition(timer), slot(timer.id, shards))
    tenant = timer.tenant
    moving: Item = {
        **({} if tenant == DEFAULT else {"tenant_shard": {"S": tenant_key(tenant, shard)}}),
        "state": {"S": timer.state.value},
        "version": _number(timer.version),
        "shard": {"S": shard},
        "at_ms": _number(timer.listed_at_ms),
        "due_at_ms": _number(timer.due_at_ms),
        "next_attempt_at_ms": _number(timer.next_attempt_at_ms),
        "attempts_made": _number(timer.attempts_made),
        "lease_until_ms": _number(timer.lease_until_ms),
        "lease": {"S": f"{timer.lease.started_at_ms} {timer.lease.key}"} if timer.lease else _EMPTY,
        "updated_at_ms": _number(timer.updated_at_ms),
        "expires_at": _number((timer.updated_at_ms + retention_ms) // 1000 if final else _NEVER),
    }
    if timer.queue is not None and not final:
        leased = timer.state is State.FIRING
        moving["queue_shard"] = {"S": queue_key(timer.queue, slot(timer.id, QUEUE_SHARDS), leased=leased)}
    return moving


def _spec_text(timer: Timer) -> str:
    retry = timer.retry
    spec: dict[str, Any] = {
        "target": _target_fields(timer.target),
        "retry": [retry.max_attempts, retry.min_backoff, retry.max_backoff, retry.multiplier, retry.jitter],
        "labels": dict(timer.labels),
        "created_at_ms": timer.created_at_ms,
        "trace": timer.trace,
    }
    if isinstance(timer.request, Sealed):
        spec["sealed_request"] = timer.request.token
    elif timer.request is not None:
        spec["request"] = timer.request
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":"))


def _target_fields(target: Target) -> dict[str, Any]:
    """Return what is stored of a target; without a type it is an HTTP endpoint."""
    fields: dict[str, Any] = {}
    match target:
        case HttpTarget():
            fields |= {"url": target.url, "method": target.method}
            fields |= {"headers": dict(target.headers), "timeout": target.timeout}
            if target.signing_key is not None:
                fields["signing_key"] = target.signing_key
        case AmqpTarget():
            fields |= _amqp_fields(target)
        case LogTarget():
            fields["type"] = target.type
        case QueueTarget():
            fields |= {"type": target.type, "queue": target.queue}
    if target.body is not None:
        fields["body"] = [target.body.kind, target.body.text]
    if target.secrets:
        fields["secrets"] = {name: _token(secret) for name, secret in target.secrets.items()}
    return fields


def _amqp_fields(target: AmqpTarget) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": target.type, "to": [target.to.exchange, target.to.routing_key]}
    fields |= {"headers": dict(target.headers), "properties": dict(target.properties)}
    if target.dead_letter is not None:
        fields["redeliveries_left"] = target.redeliveries_left
        fields["dead_letter"] = [target.dead_letter.exchange, target.dead_letter.routing_key]
    return fields


def _token(secret: Secret) -> str:
    if not isinstance(secret, Sealed):
        raise TypeError("a secret is stored sealed or not at all")
    return secret.token


def _attempts_text(timer: Timer) -> str:
    attempts = [[a.number, a.started_at_ms, a.finished_at_ms, a.lateness_ms, a.status, a.error] for a in timer.attempts]
    return json.dumps(attempts, ensure_ascii=False, separators=(",", ":"))


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


_ZERO: Final = _number(0)
_EMPTY: Final = {"S": ""}
_SILENT: Final[Item] = {
    "attempts": {"S": "[]"},
    "attempts_made": _ZERO,
    "lease_until_ms": _ZERO,
    "lease": _EMPTY,
    "expires_at": _number(_NEVER),
}

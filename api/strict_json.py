"""JSON as RFC 8259 has it: no NaN, no lone surrogates, bounded depth and digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute


class NotJson(ValueError):
    """The text is not JSON; the message says why."""


def loads(raw: bytes) -> Any:
    """Return the value of a JSON text. Raises NotJson."""
    try:
        value = json.loads(raw, parse_constant=_no_constant)
        dumps(value)
    except UnicodeError:
        raise NotJson("the body is not valid UTF-8, or holds half of a surrogate pair") from None
    except RecursionError:
        raise NotJson("the body is nested too deeply") from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    return value


def dumps(value: Any) -> bytes:
    """Return a value as compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return loads(await self.body())
        except NotJson as error:
            raise HTTPException(400, f"The body is not JSON: {error}.") from None


class StrictRoute(APIRoute):
    """A route that reads its body as strict JSON, whatever kind of JSON its content type names."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            _check_content_type(request)
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and given != "application/json" and not given.endswith("+json"):
        raise HTTPException(415, f"Send the body as application/json, not as {given[:100]}.")

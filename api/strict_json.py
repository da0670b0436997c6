"""JSON as RFC 8259 has it: no NaN, no lone surrogates, bounded depth and digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable
from math import isinf
from typing import Any, Final, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

MAX_DEPTH: Final = 100  #: of arrays and objects within each other; how deep Python itself goes depends on its version


_TOO_DEEP: Final = f"it is nested too deeply, more than {MAX_DEPTH} levels"


class NotJson(ValueError):
    """The text is not JSON; the message says why."""


def loads(raw: bytes) -> Any:
    """Return the value of a JSON text. Raises NotJson."""
    try:
        text = raw.decode()
    except UnicodeError:
        raise NotJson("it is not valid UTF-8") from None
    return parse(text)


def parse(text: str) -> Any:
    """Return the value of a JSON text, which can be written as JSON again. Raises NotJson."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
            raise NotJson(_TOO_DEEP)
        if "\\u" in text:  # half of a surrogate pair can only come as an escape
            dumps(value)
    except UnicodeError:
        raise NotJson("it holds half of a surrogate pair") from None
    except RecursionError:
        raise NotJson(_TOO_DEEP) from None
    except ValueError as error:
        raise NotJson(str(error)) from None
    return value


def dumps(value: Any) -> bytes:
    """Return a value as compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise NotJson("a number in it is too large")
    return number


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
    return any(isinstance(inner, (dict, list)) for inner in level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


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

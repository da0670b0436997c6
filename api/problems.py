"""Every error as application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from api.schemas import Problem
from api.strict_json import dumps
from api.targets import TARGETS, UNKNOWN_TYPE
from timers.errors import (
    AlreadyExists,
    IllegalTransition,
    Invalid,
    KeyReused,
    LeaseEnded,
    NotEmpty,
    Overloaded,
    PreconditionFailed,
    QuotaReached,
    TimerError,
    TimerNotFound,
    Unavailable,
)

logger = logging.getLogger(__name__)

_STATUS: Mapping[type[TimerError], int] = {
    Invalid: 422,
    TimerNotFound: 404,
    LeaseEnded: 404,
    NotEmpty: 409,
    AlreadyExists: 409,
    KeyReused: 422,
    IllegalTransition: 409,
    PreconditionFailed: 412,
    Overloaded: 429,
    Unavailable: 503,
}


_TITLES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("bad-request", "Bad request"),
    401: ("unauthorized", "Unauthorized"),
    403: ("forbidden", "Forbidden"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    408: ("too-slow", "Too slow"),
    409: ("conflict", "Conflict"),
    412: ("precondition-failed", "Precondition failed"),
    413: ("too-large", "Too large"),
    415: ("unsupported-media-type", "Unsupported media type"),
    422: ("invalid", "Invalid"),
    429: ("overloaded", "Overloaded"),
    431: ("headers-too-large", "Headers too large"),
    500: ("internal", "Internal error"),
    503: ("unavailable", "Unavailable"),
}


def describe(status: int, detail: str, **more: Any) -> dict[str, Any]:
    """Return a problem; ``more`` are extension members."""
    name, title = _TITLES.get(status) or _TITLES[500 if status >= 500 else 400]
    return {
        "type": f"urn:timers:problem:{name}",
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }


def describe_error(error: Exception) -> dict[str, Any]:
    """Return the problem of an error of ours, or of the validation of a client's JSON."""
    if isinstance(error, ValidationError):
        return _of_fields(error.errors(), skip=())
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        logger.error("a request failed", exc_info=error)
        return describe(500, "The service made a mistake; it has been logged.")
    more: dict[str, Any] = {}
    if isinstance(error, Invalid):
        more["errors"] = [{"pointer": error.pointer, "detail": error.detail}]
    if isinstance(error, IllegalTransition):
        more["state"] = error.state
    if isinstance(error, (Overloaded, Unavailable)):
        more["retry_after"] = error.retry_after
    return describe(status, str(error), **more)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem response."""
    return _response(describe(status, detail), headers)


def _response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(dumps(body), body["status"], headers, media_type="application/problem+json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of problem answers."""
    return {
        status: {
            "description": _TITLES[status][1],
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem."""
    app.add_exception_handler(TimerError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(ValidationError, _of_ours)
    app.add_exception_handler(StarletteHTTPException, _of_http)
    app.add_exception_handler(Exception, _of_anything)


async def _of_ours(_: Request, error: Exception) -> Response:
    return of_error(error)


def of_error(error: Exception) -> Response:
    """Return the problem response of an error of ours, or of the validation of a client's JSON."""
    headers = {}
    if isinstance(error, (Overloaded, Unavailable)):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, QuotaReached):
        headers["ratelimit-policy"] = f'"pending";q={error.most}'
        headers["ratelimit"] = f'"pending";r=0;t={error.retry_after}'
    return _response(describe_error(error), headers)


async def _of_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _response(_of_fields(error.errors(), skip=("body",)))


def _of_fields(details: Iterable[Any], skip: Sequence[str]) -> dict[str, Any]:
    errors = [_field(detail, skip) for detail in details][:50]
    sentence = "; ".join(f"{error['pointer'] or 'the body'}: {error['detail']}" for error in errors[:3])
    return describe(422, sentence, errors=errors)


def _field(detail: Mapping[str, Any], skip: Sequence[str]) -> dict[str, str]:
    path = [str(part) for part in detail["loc"]]
    if path and path[0] in skip:
        path = path[1:]
    if path[:1] == ["target"]:
        path[1:2] = _of_target(path[1:2], detail["type"])
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1")[:200] for part in path)
    message = "there is no such field" if detail["type"] == "extra_forbidden" else detail["msg"]
    return {"pointer": pointer, "detail": message.removeprefix("Value error, ")}


def _of_target(part: Sequence[str], error: str) -> Sequence[str]:
    """Return a part of a path as clients know it: the framework puts the target's type into paths, or leaves it out."""
    if error == UNKNOWN_TYPE:
        return ["type"]
    return [] if part and part[0] in TARGETS else part


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    return problem(error.status_code, _sentence(error), headers)


def _allowed(request: Request) -> str:
    """Return the methods of a path; the framework would name those of the first route that has it."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


def _sentence(error: HTTPException | StarletteHTTPException) -> str:
    known = {404: "There is nothing at this path.", 405: "This path does not take this method."}
    if error.detail == HTTPStatus(error.status_code).phrase:
        return known.get(error.status_code, error.detail)
    return str(error.detail)


async def _of_anything(_: Request, __: Exception) -> Response:
    return problem(500, "The service made a mistake; it has been logged.")


PROBLEM_SCHEMA = Problem.model_json_schema(ref_template="#/components/schemas/{model}")

"""The OpenAPI document: the framework's, and what it cannot know."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems
from api.door import needs_key

_ONE: Final = "/v1/timers/{timer_id}"


def of(app: FastAPI) -> dict[str, Any]:
    """Return the document of an app, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            license_info=app.license_info,
            routes=app.routes,
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        problem = dict(problems.PROBLEM_SCHEMA)
        schemas |= problem.pop("$defs", {})
        schemas["Problem"] = problem
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        _ask_for_keys(schema)
        _drop_foreign_errors(schema)
        _drop_nulls_of_parameters(schema)
        _link(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _ask_for_keys(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        if needs_key(path):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
                operation["responses"] |= {
                    str(status): answer for status, answer in problems.documented(401, 403).items()
                }


def _drop_foreign_errors(schema: dict[str, Any]) -> None:
    """Take out the framework's own validation errors: every error here is a problem."""
    for path in schema["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)


def _drop_nulls_of_parameters(schema: dict[str, Any]) -> None:
    """Take out what the framework makes of an optional parameter: there is no null in a header or a query."""
    for path in schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                kinds = parameter["schema"].pop("anyOf", [])
                for kind in kinds:
                    if kind != {"type": "null"}:
                        parameter["schema"] |= kind


def _link(schema: dict[str, Any]) -> None:
    """Say what can be done with a timer that was created."""
    one = schema["paths"][_ONE]
    followers = [*one.values(), *(schema["paths"][f"{_ONE}/{verb}"]["post"] for verb in ("fire", "replay"))]
    links = {
        operation["summary"]: {
            "operationId": operation["operationId"],
            "parameters": {"timer_id": "$response.body#/id"},
        }
        for operation in followers
    }
    for creation in (schema["paths"]["/v1/timers"]["post"], one["put"]):
        creation["responses"]["201"]["links"] = links

"""The settings as the README's table has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.settings import PREFIX, Settings


def lines() -> list[str]:
    """Return one row a setting: name, default, what it takes, what it is."""
    fields: Mapping[str, Mapping[str, Any]] = Settings.model_json_schema()["properties"]
    return [
        f"| `{PREFIX}{name.upper()}` | {_default(field['default'])} | {_takes(field)} | {field['description']} |"
        for name, field in fields.items()
    ]


def _default(value: object) -> str:
    if value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _takes(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "boolean":
        return "`true`, `false`"
    if "pattern" in field:
        return f"`{field['pattern']}`"
    if "exclusiveMinimum" in field:
        return f"above {field['exclusiveMinimum']:g}, up to {field['maximum']:g}"
    if "minimum" in field:
        return f"{field['minimum']:.15g} to {field['maximum']:.15g}"
    return "text"

"""
Whose timer it is, told by its id.

Within the service the id of a tenant's timer is ``tenant/name``, of the default tenant's the bare name. No name and
no tenant has a ``/`` in it, so no client can spell another tenant's ids.
"""

from __future__ import annotations

import re
from typing import Final

from timers import limits

DEFAULT: Final = "default"
PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
BORDER: Final = "/"
QUALIFIED: Final = re.compile(f"(?:{PATTERN.pattern}{BORDER})?{limits.ID_PATTERN.pattern}")


def qualified(tenant: str, name: str) -> str:
    """Return the id that a tenant's name for a timer stands for."""
    return name if tenant == DEFAULT else f"{tenant}{BORDER}{name}"


def tenant_of(timer_id: str) -> str:
    """Return whose timer an id stands for."""
    tenant, border, _ = timer_id.partition(BORDER)
    return tenant if border else DEFAULT


def name_of(timer_id: str) -> str:
    """Return what its tenant calls a timer."""
    return timer_id.rpartition(BORDER)[2]

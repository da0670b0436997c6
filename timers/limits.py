"""The bounds of the public contract, each stated once."""

from __future__ import annotations

import re
from typing import Final

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUEUE_PATTERN: Final = re.compile(r"[a-z0-9._-]{1,64}")
MAX_QUEUES: Final = 1_000  #: of one tenant
MAX_LEASES: Final = 100  #: in one request, of a pull queue
MAX_WAIT_S: Final = 30.0  #: of a request for leases
MIN_LEASE_S: Final = 1.0
MAX_LEASE_S: Final = 12 * 3600.0
MAX_DELAY_MS: Final = 10 * 366 * 24 * 3600 * 1000  #: ten years, leap days included
MAX_BODY_BYTES: Final = 256 * 1024
MAX_ITEM_BYTES: Final = 400 * 1000  #: DynamoDB's bound on one item
MAX_URL_LENGTH: Final = 2048
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 8 * 1024  #: one header, name and value
MAX_AMQP_NAME_BYTES: Final = 255  #: an exchange, a routing key, a property: AMQP's short string
MAX_AMQP_HEADERS_BYTES: Final = 64 * 1024  #: all of them: AMQP has them in one frame, of 128 KiB by default
MAX_REDELIVERIES: Final = 1_000
MAX_LABELS: Final = 32
MAX_LABEL_LENGTH: Final = 256
MAX_LIST: Final = 500
MAX_ATTEMPTS: Final = 100
MAX_BACKOFF_S: Final = 7 * 24 * 3600
MAX_MULTIPLIER: Final = 100
MIN_TIMEOUT_S: Final = 0.01
MAX_TIMEOUT_S: Final = 300.0
KEPT_ATTEMPTS: Final = 20
"""How many of a timer's latest attempts its item keeps."""

CLOCK_SKEW_MS: Final = 5_000
"""How far apart the clocks of two processes may be."""

SETTLE_MARGIN_MS: Final = 5_000
"""How long after a call's own time-out its lease still runs, so that its outcome can be written."""

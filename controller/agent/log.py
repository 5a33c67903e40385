"""One line of JSON an event, on stderr. What users can write is escaped by JSON, so no line can be forged."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def log(event: str, **fields: Any) -> None:
    """Write one event; a broken pipe to the log is no reason to lose work."""
    line = {"at": round(time.time() * 1000), "event": event, **{k: v for k, v in fields.items() if v not in (None, "")}}
    try:
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return

"""How quantities read in sentences."""

from __future__ import annotations

from controller.core.model import DAY, HOUR, MINUTE, SECOND, Millis


def duration(ms: Millis) -> str:
    """Return a duration as people say it: `0.4 s`, `12 s`, `23 min`, `3 h`, `2 d`."""
    ms = max(ms, 0)
    if ms < 10 * SECOND and ms % SECOND:
        return f"{ms / SECOND:.1f} s"
    if ms < 2 * MINUTE:
        return f"{ms // SECOND} s"
    if ms < 2 * HOUR:
        return f"{ms // MINUTE} min"
    if ms < 2 * DAY:
        return f"{ms // HOUR} h"
    return f"{ms // DAY} d"


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return `1 session`, `2 sessions`."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"

"""A clock that moves only when a test says so."""

from __future__ import annotations

START_MS = 1_772_445_600_000
"""2026-03-02 10:00:00 UTC, a Monday: where every FakeClock starts unless told otherwise."""


class FakeClock:
    """Epoch milliseconds that stand still until `step` or `set` moves them.

    Hand over the clock itself where a function without arguments is wanted: calling it is `now()`.
    """

    def __init__(self, now: int = START_MS) -> None:
        self._now = now

    def __call__(self) -> int:
        return self._now

    def now(self) -> int:
        """Return the time in epoch milliseconds."""
        return self._now

    def set(self, now: int) -> int:
        """Move to a moment, earlier ones too, and return it."""
        self._now = now
        return now

    def step(self, *, ms: int = 0, seconds: float = 0, minutes: float = 0, hours: float = 0) -> int:
        """Move on by the sum of what is given and return the new time; a negative step turns the clock back."""
        return self.set(self._now + ms + round((seconds + 60 * minutes + 3600 * hours) * 1000))

    def __repr__(self) -> str:
        return f"FakeClock({self._now})"

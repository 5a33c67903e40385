"""Two times: what is shown (epoch) and what durations are measured by (steady), so a corrected clock ends no lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Epoch milliseconds, and seconds that never go back."""

    epoch: Callable[[], int]
    steady: Callable[[], float]

    def shown(self, steady: float) -> int:
        """Return a steady moment as epoch milliseconds."""
        return self.epoch() + round((steady - self.steady()) * 1000)


SYSTEM = Clock(lambda: time.time_ns() // 1_000_000, time.monotonic)

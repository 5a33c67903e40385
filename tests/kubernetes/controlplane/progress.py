"""How a long wait looks: one line that is rewritten on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

EVERY = 30.0
"""Seconds between two plain lines."""


class Progress:
    """A step with a count. `clock` is monotonic seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._began = self._shown = clock()
        self._width = 0

    def say(self, sentence: str) -> None:
        """Write a line that stays."""
        self._clear()
        self._stream.write(f"{sentence}\n")
        self._stream.flush()

    def begin(self) -> None:
        """Start the time of the next step."""
        self._began = self._shown = self._clock()

    def show(self, what: str, done: int, of: int) -> None:
        """Show how far the step is: at once on a terminal, at most twice a minute elsewhere."""
        now = self._clock()
        line = f"  {what}: {done:,} of {of:,}, {lasted(now - self._began)}"
        if self._terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r{line.ljust(self._width)}")
            self._stream.flush()
            self._width = len(line)
        elif now - self._shown >= EVERY:
            self._shown = now
            self.say(line)

    def end(self, sentence: str) -> None:
        """Write what the step came to, with the time it took."""
        self.say(f"  {sentence} ({lasted(self._clock() - self._began)})")

    def _clear(self) -> None:
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._width = 0


def lasted(seconds: float) -> str:
    """Return `42 s`, `6 min 02 s`."""
    whole = int(seconds + 0.5)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"

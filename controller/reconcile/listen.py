"""Takes hints from where they come, in a thread of its own, while this controller leads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from controller import telemetry
from controller.core.model import SECOND, Millis
from controller.core.reads import Hint
from controller.errors import EditctlError
from controller.reconcile.due import Due
from controller.reconcile.ports import HintSource

STALE_AFTER: Millis = 30 * SECOND
"""Without a good receive for so long, hints are not relied on: everything is polled."""
LEADS_EVERY = 1.0
"""Seconds between two looks whether this controller leads."""
LONGEST_PAUSE = 30.0


class Listener:
    """A context manager. Only who leads receives: a hint that another one took would be lost until it is seen again."""

    def __init__(self, source: HintSource, due: Due, leads: Callable[[], bool], clock: Callable[[], Millis]) -> None:
        self._source = source
        self._due = due
        self._leads = leads
        self._clock = clock
        self._good_at: Millis | None = None
        self._failures = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A receive that waits for messages is left alone: what it might still get comes again to whoever asks next.
        self._closing.set()

    @property
    def fresh(self) -> bool:
        """Whether hints were received lately, none counting as well as many."""
        good = self._good_at
        return good is not None and self._clock() < good + STALE_AFTER

    def answered(self, hints: tuple[Hint, ...]) -> None:
        """Delete the messages of these; one that stays comes once more, which does no harm."""
        receipts = [receipt for hint in hints for receipt in sorted(hint.receipts)]
        if not receipts:
            return
        try:
            self._source.delete(receipts)
        except EditctlError as error:
            telemetry.event("error", message=f"{len(receipts)} hints could not be deleted and come again: {error}")

    def _run(self) -> None:
        while not self._closing.is_set():
            self._closing.wait(self.turn())

    def turn(self) -> float:
        """Receive once, if this controller leads; return the seconds to wait before the next turn."""
        if not self._leads():
            self._good_at = None
            return LEADS_EVERY
        began = self._clock()
        try:
            hints = self._source.receive()
        except EditctlError as error:
            return self._failed(error)
        except Exception as error:
            # A fault here must not leave a controller that waits for hints for ever.
            return self._failed(EditctlError(f"unexpected {type(error).__name__}: {error}"))
        self._failures = 0
        # From when it was asked: what was written before that is not proven to be in.
        self._good_at = began
        self.answered(tuple(hint for hint in hints if not self._due.hint(hint)))
        return 0.0

    def _failed(self, error: EditctlError) -> float:
        pause = min(2.0**self._failures, LONGEST_PAUSE)
        if not self._failures:
            telemetry.event("error", message=f"hints cannot be received: {error}")
        self._failures += 1
        return pause

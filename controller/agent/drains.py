"""Which drain the agent serves: ids only grow, a cancelled one is never served again, a receipt belongs to one id.

A slow controller is a delayed message: POST, DELETE and keepalive arrive late, twice and out of order. The rules here
are those of the explicit-state model that the protocol was checked with; tests/agent/test_drains.py plays all orders
against a transcription of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.agent.protocol import DrainState, DrainView, Receipt


@dataclass(slots=True)
class Drains:
    """The drain that is served (0: none), the highest id known to be cancelled, and what the save came to."""

    current: int = 0
    cancelled: int = 0
    receipt: Receipt | None = None
    """Of a save that succeeded: from here until it is cancelled the workload takes no new work."""
    failed: Receipt | None = None
    wanted: bool = False
    """Whether a save under the current id is still to be made."""
    asked_at: float | None = None
    """When the current drain was first asked for, on the clock of who asks."""

    def ask(self, drain: int, now: float | None = None) -> None:
        """POST: serve this drain, unless a later one is served or this one is cancelled. Asked again it tries again."""
        if drain <= self.cancelled or drain < self.current:
            return
        if drain != self.current:
            self.current, self.receipt, self.failed, self.asked_at = drain, None, None, now
        self.wanted = self.receipt is None

    def cancel(self, up_to: int) -> None:
        """DELETE or keepalive: drains up to this id are cancelled, those that have not arrived yet as well."""
        self.cancelled = max(self.cancelled, up_to)
        if self.current <= up_to:
            self.current, self.receipt, self.failed, self.wanted, self.asked_at = 0, None, None, False, None

    def done(self, drain: int, receipt: Receipt) -> None:
        """Note what the save under an id came to; nothing when that drain is no longer the one that is served."""
        if drain != self.current or self.receipt is not None:
            return
        self.wanted = False
        if receipt.saved:
            self.receipt, self.failed = receipt, None
        else:
            self.failed = receipt

    @property
    def quiet(self) -> bool:
        """Whether the workload must not run: a save is to be made or was made, and nothing cancelled it."""
        return self.current != 0 and (self.wanted or self.receipt is not None)

    def view(self) -> DrainView | None:
        """Return what the status says."""
        if self.current == 0:
            return None
        if self.receipt is not None:
            return DrainView(self.current, DrainState.SAVED, self.receipt)
        if self.wanted:
            return DrainView(self.current, DrainState.SAVING, self.failed)
        return DrainView(self.current, DrainState.FAILED, self.failed)

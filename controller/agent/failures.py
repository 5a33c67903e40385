"""How a save or restore fails: always with a reason that goes into the receipt."""

from __future__ import annotations

from controller.agent.protocol import SaveReason
from controller.errors import EditctlError


class SaveFailed(EditctlError):
    """The workspace could not be saved or restored; `reason` goes into the receipt."""

    def __init__(self, reason: SaveReason, what: str, why: str = "", todo: str = "") -> None:
        super().__init__(what, why, todo)
        self.reason = reason


class GitFailed(SaveFailed):
    """A git command ended with an error; `said` is what it wrote, without secrets."""

    def __init__(self, reason: SaveReason, what: str, said: str = "") -> None:
        super().__init__(reason, what, said)
        self.said = said

"""Proxies that stand between a controller and its ports, and see every call."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any


class Crash(BaseException):
    """The process is gone; nothing in the controller may catch this."""


class Mode(StrEnum):
    """When a process dies around a call."""

    BEFORE = "before the call"
    REPLY_LOST = "after the effect, before the reply"
    AFTER = "after the reply"


class Intercepted:
    """A port whose every method call goes through `around(name, call)`."""

    def __init__(self, port: Any, around: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._port = port
        self._around = around

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if name.startswith("_") or not callable(attribute):
            return attribute
        return lambda *args, **kwargs: self._around(name, lambda: attribute(*args, **kwargs))


class CrashAt:
    """Dies at the nth call (from 0) of all ports together, once; afterwards counts on."""

    def __init__(self, n: int | None = None, mode: Mode = Mode.BEFORE) -> None:
        self.calls: list[str] = []
        self._n = n
        self._mode = mode

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        here = len(self.calls) == self._n
        self.calls.append(name)
        if here and self._mode is Mode.BEFORE:
            raise Crash
        answer = call()
        if here:
            # A lost reply and a crash right after it look the same from here; what differs is that an SDK would
            # have sent a lost one again.
            if self._mode is Mode.REPLY_LOST and name == "run_task":
                call()
            raise Crash
        return answer

    def wrap(self, port: Any) -> Intercepted:
        """Return the port with this around it."""
        return Intercepted(port, self)

"""The compiled service in a Node process, on the clock of the test."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.aws.schema import TableNames
from tests.fakes.clock import FakeClock

SIGNAL = {"signal": "<signal>"}
"""Among the options of a call: the signal that `Driver.abort` sets off."""


MOST_PAUSES = 1000


class Refused(Exception):
    """What a call was rejected with; `name` is the class in the service's error tree."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['name']}: {error['message']}")
        self.name = str(error["name"])
        self.what = str(error.get("what", error["message"]))
        self.why = str(error.get("why", ""))
        self.todo = str(error.get("todo", ""))


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method, of the service or of the original one."""

    method: str
    args: tuple[Any, ...]
    of: str = "service"


def ours(method: str, *args: Any) -> Call:
    """Return a call of the service."""
    return Call(method, args)


def original(method: str, *args: Any) -> Call:
    """Return a call of the original container manager."""
    return Call(method, args, of="original")


@dataclass(frozen=True, slots=True)
class Pause:
    """A call that waits until the clock says so."""

    call: int
    until: float


class Driver:
    """Makes calls. While all of them wait, the clock moves to the end of the first pause and `meanwhile` happens."""

    def __init__(self, node: str, program: Path, errors: Path) -> None:
        self._errors = errors
        with errors.open("w") as file:
            self._process = subprocess.Popen(
                [node, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, bufsize=1
            )
        self._clock = FakeClock()
        self._calls = 0
        self.pauses: list[float] = []
        """What the calls waited since `connect`, in milliseconds."""

    def close(self) -> None:
        """End the process, which it does when its input ends."""
        try:
            self._process.communicate(timeout=10)
        finally:
            self._process.kill()

    def connect(self, endpoint: str, names: TableNames, clock: FakeClock) -> None:
        """Turn to another endpoint, with nothing left of what was before."""
        self._clock = clock
        self.pauses = []
        tables = {"sessions": names.sessions, "containers": names.containers, "controller": names.controller}
        self._send(connect=endpoint, tables=tables)

    def trouble(self, command: str, error: str, times: int = 1, **more: Any) -> None:
        """Let the next commands of a name fail, before they take effect or `afterwards`."""
        self._send(trouble={"command": command, "error": error, "times": times, **more})

    def abort(self, reason: str) -> None:
        """Abort the call made last."""
        self._send(abort=self._calls, reason=reason)

    def __call__(self, call: Call, meanwhile: Callable[[], object] = lambda: None) -> Any:
        """Return what the call resolves to. Raises Refused."""
        [answer] = self.together(call, meanwhile=meanwhile)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def together(self, *calls: Call, meanwhile: Callable[[], object] = lambda: None) -> list[Any]:
        """Make the calls at once and return what each resolves to, or Refused."""
        numbers = [self._begin(call) for call in calls]
        answers: dict[int, Any] = {}
        waiting: dict[int, Pause] = {}
        before = len(self.pauses)
        while len(answers) < len(calls):
            if len(waiting) == len(calls) - len(answers):
                self._pass_time(waiting, meanwhile)
            message = self._receive()
            if "pause" in message:
                self.pauses.append(message["ms"])
                assert len(self.pauses) - before < MOST_PAUSES, "the calls wait without end"
                waiting[message["pause"]] = Pause(message["call"], self._clock.now() + message["ms"])
            else:
                answers[message["done"]] = Refused(message["error"]) if "error" in message else message["value"]
        return [answers[number] for number in numbers]

    def _begin(self, call: Call) -> int:
        self._calls += 1
        self._send(call=self._calls, of=call.of, method=call.method, args=call.args, now=self._clock.now())
        return self._calls

    def _pass_time(self, waiting: dict[int, Pause], meanwhile: Callable[[], object]) -> None:
        self._clock.set(round(min(pause.until for pause in waiting.values())))
        meanwhile()
        for number in [n for n, pause in waiting.items() if pause.until <= self._clock.now()]:
            del waiting[number]
            self._send(wake=number, now=self._clock.now())

    def _send(self, **message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the driver ended:\n{self._errors.read_text()}"
        message: dict[str, Any] = json.loads(line)
        return message

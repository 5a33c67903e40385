"""`editctl run` as a process of its own: a controller that can be killed like any other."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import controller
from controller.core.model import Action, ActionKind, Millis, OutcomeStatus, Reason, Step

__all__ = ["REGION", "ControllerProcess", "Event", "environment_for"]

REGION = "us-east-1"
"""Any would do; the local AWS keeps what is in one apart from what is in another."""

_PACKAGE = Path(controller.__file__).parent

# What is added to the command is a lifeline: when the process that started it is gone, however that happened, standard
# input ends, and the controller with it.
_EDITCTL = """
import os, signal, threading
def live():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=live, daemon=True).start()
from controller.cli.main import main
main()
"""
_SECONDS_TO_READ = 1.0
_KEPT_LINES = 5


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the controller's log; the words are the log's own."""

    name: str
    container_id: str
    reason: str
    step: str
    outcome: str
    generation: int | None
    message: str
    at: Millis
    """When it was heard."""

    @property
    def done(self) -> bool:
        """Whether it says that something was done."""
        return self.outcome == OutcomeStatus.DONE

    @property
    def is_up(self) -> bool:
        """Whether it says that a container runs, with an agent in it that was admitted, if there is one."""
        return self.done and self.step in (Step.CORRECT, Step.ADMIT)

    @property
    def action(self) -> Action | None:
        """What it is about as an operator would be shown it; None for a line that is about no action."""
        if self.name not in set(ActionKind) or self.reason not in set(Reason):
            return None
        kind, deferred = ActionKind(self.name), None
        if kind in (ActionKind.HOLD, ActionKind.DEFER) and self.step in set(ActionKind):
            # Of these the log says what does not happen, where else it says the step.
            deferred = ActionKind(self.step)
        failed = "failed: " if self.outcome == OutcomeStatus.FAILED else ""
        message = f"{failed}{self.message}"
        return Action(kind, self.container_id, Reason(self.reason), message, deferred=deferred)

    @classmethod
    def parse(cls, line: str, at: Millis) -> Event | None:
        """Return the event of a JSON line, None for any other line."""
        try:
            fields: Any = json.loads(line)
        except ValueError:
            return None
        if not isinstance(fields, dict) or "event" not in fields:
            return None
        name, container_id, reason, step, outcome, message = (str(fields.get(field, "")) for field in _TEXTS)
        return cls(name, container_id, reason, step, outcome, fields.get("generation"), message, at)


_TEXTS = ("event", "containerId", "reason", "action", "outcome", "message")


def environment_for(url: str) -> dict[str, str]:
    """Return this process's environment with nothing in it of the user's AWS and editctl settings, or of a proxy."""
    kept = {name: value for name, value in os.environ.items() if not _is_foreign(name.upper())}
    code = [str(_PACKAGE.parent), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(code),
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        # No file is there: what a profile says does not count.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _is_foreign(name: str) -> bool:
    return name.startswith(("AWS_", "BOTO", "EDITCTL_")) or name.endswith("_PROXY")


class ControllerProcess:
    """A running `editctl run`; `on_event` is called with each line of its log, in a thread of its own."""

    def __init__(
        self,
        environment: Mapping[str, str],
        flags: Sequence[str],
        clock: Callable[[], Millis],
        on_event: Callable[[Event], None],
    ) -> None:
        self._clock = clock
        self._on_event = on_event
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _EDITCTL, "run", "--log-format", "json", *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=environment,
            # There is no editctl.toml here, whatever lies in the user's folder.
            cwd=_PACKAGE,
            # Ctrl-C is for the demo, which ends its controller in order.
            start_new_session=True,
        )
        self._reader = Thread(target=self._read, name=f"log-of-{self.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def last_words(self) -> str:
        """What it wrote last that is no event: an error, if it could not start."""
        return " ".join(self._said)

    def kill(self) -> None:
        """Kill it on the spot, as a lack of memory or a lost machine would; returns when it is gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join(_SECONDS_TO_READ)
        for pipe in (self._process.stdin, self._process.stdout):
            # What was not written any more has nobody to go to.
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = Event.parse(line, self._clock())
            if event is None:
                self._said.append(line.strip())
            else:
                self._on_event(event)

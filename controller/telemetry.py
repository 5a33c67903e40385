"""The log: one line for each outcome, plain for people or JSON for machines.

Only the fields named here are ever written, and every text in them is escaped: a session id with a newline or an
escape sequence in it cannot forge a line.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import IO, Any

from controller.core.model import Action, Millis, Outcome, OutcomeStatus
from controller.errors import AwsError, EditctlError

NAME = "editctl"
FORMATS = ("text", "json")

FIELDS = ("containerId", "reason", "action", "outcome", "generation", "taskArn", "seconds", "round", "code", "message")
"""What a line may hold beside time, level and event, in the order in which it is written."""

_LONGEST = 2_000
_WIDTH_OF_EVENT = 7
_EVENT_FIELDS = "editctl_fields"

logger = logging.getLogger(NAME)


def escaped(text: str) -> str:
    """Return the text with everything that is not printable as its escape sequence, on one line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def iso(at: Millis) -> str:
    """Return a time in UTC as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def configure(stream: IO[str], log_format: str = "text") -> None:
    """Send the log to this stream in this format; other libraries only with their warnings."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if log_format == "json" else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # botocore's lower levels write request bodies and signatures.
    root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)


class PlainLines(logging.Formatter):
    """`15:02:11 start   ameliastamps-website-john@email.com  SessionActive  task 3f2c9d, generation 4`"""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _parts(record)
        words = [str(fields[name]) for name in ("containerId", "reason") if fields.get(name)]
        outcome = fields.get("outcome", OutcomeStatus.DONE.value)
        message = str(fields.get("message", ""))
        if outcome != OutcomeStatus.DONE.value:
            message = f"{outcome}: {message}"
        if fields.get("code"):
            message += f" ({fields['code']})"
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        name = record.levelname.lower()
        level = "" if record.levelno < logging.WARNING or event == name else f"{name} "
        return f"{time} {level}{event:<{_WIDTH_OF_EVENT}} " + "  ".join(filter(None, [*words, message]))


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, and what there is of FIELDS."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _parts(record)
        line = {"time": iso(int(record.created * 1000)), "level": record.levelname.lower(), "event": event, **fields}
        return json.dumps(line, ensure_ascii=False)


def _parts(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Return the event and its fields; what another library logged is an event of its name."""
    fields = getattr(record, _EVENT_FIELDS, None)
    if fields is None:
        return escaped(record.name), {"message": _short(escaped(record.getMessage()))}
    return record.getMessage(), fields


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line. Fields that FIELDS does not name, and those that are None or empty, are left out."""
    kept = {field: fields[field] for field in FIELDS if fields.get(field) not in (None, "")}
    safe = {field: _short(escaped(str(v))) if isinstance(v, str) else v for field, v in kept.items()}
    logger.log(level, name, extra={_EVENT_FIELDS: safe})


def outcome(done: Outcome, round_number: int) -> None:
    """Write what an action came to."""
    action = done.action
    event(
        action.kind.value,
        logging.WARNING if done.status is OutcomeStatus.FAILED else logging.INFO,
        containerId=action.container_id,
        reason=str(action.reason),
        action=str(action.step),
        outcome=done.status.value,
        generation=done.generation,
        taskArn=done.task_arn,
        seconds=round(done.seconds, 3),
        round=round_number,
        code=done.error.code if isinstance(done.error, AwsError) else None,
        message=done.message or action.message,
    )


def decision(action: Action, round_number: int) -> None:
    """Write that something is held or deferred: said once, when it begins."""
    event(
        action.kind.value,
        containerId=action.container_id,
        reason=str(action.reason),
        action=str(action.deferred) if action.deferred else None,
        generation=action.generation,
        taskArn=action.task.arn if action.task else None,
        round=round_number,
        message=action.message,
    )


def problem(error: EditctlError, round_number: int, retry_in: float) -> None:
    """Write that a round failed, and when the next one is."""
    event(
        "error",
        logging.ERROR,
        reason=type(error).__name__,
        round=round_number,
        code=error.code if isinstance(error, AwsError) else None,
        message=f"{error}; next try in {retry_in:.0f} s",
    )

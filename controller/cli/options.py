"""Types of options and arguments that several commands take."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

import click

from controller.core.model import DAY, Millis
from controller.core.words import duration
from controller.errors import ConfigError

_FARTHEST: Millis = 30 * DAY
"""A forecast beyond that is one of another world."""


class Duration(click.ParamType[Millis]):
    """`90s`, `20m`, `2h`, `1h30m`, `7d`, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Millis:
        from controller.config import Refused, parse_duration

        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except Refused as refused:
            self.fail(f"'{value}' is no duration. {refused.why}", param, ctx)


DURATION = Duration()


def moment_ahead(text: str, now: Millis, zone: tzinfo | None) -> Millis:
    """Return the time that `+20m`, `15:42` (the next one) or `2026-03-02 15:42` names. Raises ConfigError."""
    at = _relative(text, now) if text.startswith("+") else _absolute(text, now, zone)
    if at is None:
        raise ConfigError(
            f"--at is '{text}'",
            "it takes how long from now (+20m), a time of day (15:42), or a date and a time (2026-03-02 15:42)",
            "e.g. editctl plan --at +20m",
        )
    if not now < at <= now + _FARTHEST:
        wrong = "lies in the past" if at <= now else f"is further ahead than {duration(_FARTHEST)}"
        raise ConfigError(f"--at is '{text}'", f"that {wrong}", "name a time ahead, e.g. editctl plan --at +20m")
    return at


def _relative(text: str, now: Millis) -> Millis | None:
    from controller.config import Refused, parse_duration

    try:
        return now + parse_duration(text[1:])
    except Refused:
        return None


def _absolute(text: str, now: Millis, zone: tzinfo | None) -> Millis | None:
    here = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)
    try:
        return _millis(_next_of(time.fromisoformat(text), here))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _millis(moment if moment.tzinfo else _local(moment, zone))


def _next_of(clock: time, here: datetime) -> datetime:
    """Return when the clock next shows that time: today, or tomorrow when it has."""
    zone = here.tzinfo if clock.tzinfo is None else clock.tzinfo
    today = datetime.combine(here.astimezone(zone), clock.replace(tzinfo=None), zone)
    return today if today > here else today + timedelta(days=1)


def _local(moment: datetime, zone: tzinfo | None) -> datetime:
    return moment.replace(tzinfo=zone) if zone else moment.astimezone()


def _millis(moment: datetime) -> Millis:
    return round(moment.timestamp() * 1000)

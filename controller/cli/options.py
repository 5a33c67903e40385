"""Types of options and arguments that several commands take."""

from __future__ import annotations

from typing import Any

import click

from controller.core.model import Millis


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

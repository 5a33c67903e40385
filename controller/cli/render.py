"""Plans, outcomes, lists and explanations as lines for people. Nothing here looks or writes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.cli.screen import Screen, cells, escaped, padded
from controller.core.conditions import OUTDATED, Phase, Summary
from controller.core.explain import Explanation
from controller.core.fingerprint import Change
from controller.core.model import Action, ActionKind, Hold, Millis, Plan, Quality, Quarantined, Reason, Upcoming, World
from controller.core.saved import Stale
from controller.core.words import counted, duration

_SYMBOL = {
    ActionKind.START: "+",
    ActionKind.ADOPT: "~",
    ActionKind.RECORD: "~",
    ActionKind.COUNT: "~",
    ActionKind.CANCEL_DRAIN: "~",
    ActionKind.DRAIN: "-",
    ActionKind.STOP: "-",
    ActionKind.HOLD: "!",
    ActionKind.DEFER: "!",
    ActionKind.KEEP: "=",
}
_COLOR = {"+": "green", "~": "yellow", "-": "red", "!": "magenta", "=": None}
_VERB = {ActionKind.CANCEL_DRAIN: "cancel"}
"""Where the word for scripts is too long for a column."""
_ROW = "row"
"""The word for a row that nobody can read; it is no action."""

_WIDEST_ID = 44
"""A longer id gets more room on its own line, not on everybody's."""
_LEAST_MESSAGE = 26
"""With fewer columns for the message it goes under the id."""


# Lines of a plan


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what is done to whom and why. The symbol says what a colour would."""

    symbol: str
    verb: str
    container_id: str
    reason: str
    message: str


def line_of(action: Action) -> Line:
    """Return the line of an action."""
    message = action.message
    if action.kind in (ActionKind.HOLD, ActionKind.DEFER) and action.deferred:
        message = f"no {action.deferred}: {message}"
    verb = _VERB.get(action.kind, action.kind.value)
    return Line(_SYMBOL[action.kind], verb, escaped(action.container_id), action.reason, escaped(message))


_TIMES = frozenset({"lastActivity", "wantedUntil", "heldUntil"})


def stale_line(stale: Stale, screen: Screen, now: Millis) -> Line:
    """Return the line of a saved action that no longer holds: what changed, and what is decided now."""
    changed = ", ".join(_changed(change, screen, now) for change in stale.changes)
    decided = (
        f"now {stale.now.kind} ({stale.now.reason}): {stale.now.message}" if stale.now else "nothing is known of it now"
    )
    text = "; ".join(filter(None, [changed, decided]))
    saved = stale.saved
    verb = _VERB.get(ActionKind(saved.action), saved.action)
    return Line("!", verb, escaped(saved.container_id), escaped(saved.reason), escaped(f"stale: {text}"))


def _changed(change: Change, screen: Screen, now: Millis) -> str:
    def shown(value: str | int | None) -> str:
        if value is None:
            return "none"
        if change.name in _TIMES and isinstance(value, int):
            return screen.time(value, now)
        # The last part of an ARN says which task it is.
        return str(value).rpartition("/")[2][:12]

    return f"{change.name} {shown(change.before)} -> {shown(change.now)}"


def row_line(row: Quarantined) -> Line:
    """Return the line of a row that cannot be read."""
    whose = f"of {row.container_id}: " if row.container_id else ""
    return Line("!", _ROW, escaped(f"{row.table}/{row.key}"), Reason.ROW_QUARANTINED, escaped(whose + row.reason))


def _width_of_ids(ids: Iterable[str]) -> int:
    return max((width for i in ids if (width := cells(i)) <= _WIDEST_ID), default=0)


class Columns:
    """Lays lines out under each other: on one line each where there is room, else with the message below the id."""

    def __init__(self, screen: Screen, lines: Iterable[Line]) -> None:
        lines = tuple(lines)
        self._screen = screen
        self._verb = max((cells(line.verb) for line in lines), default=0)
        self._id = _width_of_ids([line.container_id for line in lines])
        self._reason = max((cells(line.reason) for line in lines), default=0)
        self._below = not self._has_room(self._message_column)

    @property
    def _message_column(self) -> int:
        return 4 + self._verb + 2 + self._id + 2 + self._reason + 2

    def lay(self, line: Line) -> list[str]:
        """Return the line as it is printed."""
        start = f"  {line.symbol} {padded(line.verb, self._verb)}  "
        head = f"{start}{padded(line.container_id, self._id)}  {padded(line.reason, self._reason)}  "
        if self._below or not self._has_room(cells(head)):
            indent = " " * cells(start)
            laid = [start + line.container_id]
            laid += self._screen.wrapped(line.message, f"{indent}{line.reason}  ", f"{indent}  ")
        else:
            laid = self._screen.wrapped(line.message, head, " " * self._message_column)
        return [self._screen.paint(text, _COLOR[line.symbol]) for text in laid]

    def _has_room(self, column: int) -> bool:
        return self._screen.width is None or self._screen.width - column >= _LEAST_MESSAGE


# A plan


def plan_lines(
    world: World,
    plan: Plan,
    screen: Screen,
    *,
    seconds: float,
    show_all: bool = False,
    next_command: bool = True,
    observed_at: Millis | None = None,
    saved_as: str | None = None,
) -> list[str]:
    """Return what is, what would happen and why, and what to do next.

    A plan for another time than observed_at is a forecast, and says so. saved_as is the file that it was saved to.
    """
    seen_at = plan.at if observed_at is None else observed_at
    ahead = plan.at != seen_at
    actions = [a for a in plan.actions if show_all or a.kind is not ActionKind.KEEP]
    lines = [*(line_of(a) for a in actions), *(row_line(r) for r in unread_rows(world, plan))]
    columns = Columns(screen, lines)
    listing = [text for line in lines for text in columns.lay(line)]
    kept = sum(1 for a in plan.actions if a.kind is ActionKind.KEEP)
    if kept and not show_all:
        stay = "stays as it is" if kept == 1 else "stay as they are"
        listing.append(screen.paint(f"  = {kept:,} {stay} (--all shows them)", dim=True))
    return [
        *remarks(world, plan, screen),
        *header(world, plan, screen, seconds, seen_at),
        *(forecast_lines(plan, screen, seen_at) if ahead else []),
        *(["", *listing] if listing else []),
        "",
        *screen.wrapped(summary(plan, len(world.quarantined))),
        *(next_lines(world, plan, screen, ahead=ahead, saved_as=saved_as) if next_command else []),
    ]


def forecast_lines(plan: Plan, screen: Screen, seen_at: Millis) -> list[str]:
    """Return what a plan for a later time is worth."""
    text = (
        f"Forecast for {screen.soon(plan.at, seen_at)}, in {duration(plan.at - seen_at)}: "
        "if until then nobody does anything, editctl neither."
    )
    return [screen.paint(t, bold=True) for t in screen.wrapped(text)]


def header(world: World, plan: Plan, screen: Screen, seconds: float, observed_at: Millis | None = None) -> list[str]:
    """Return what was looked at, when, and how much there is."""
    there = sum(1 for t in world.tasks if not t.stopped)
    where = f"cluster {world.cluster}" + (f" ({world.region})" if world.region else "")
    counts = [
        _n(len(world.sessions), "session"),
        _n(len(world.records), "record"),
        _n(there, "task"),
    ]
    at = plan.at if observed_at is None else observed_at
    when = f"{screen.time(at, at)} {screen.zone_name(at)}".strip()
    return screen.joined([where, *counts, f"observed at {when} in {seconds:.1f} s"])


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def sight_lines(plan: Plan, screen: Screen) -> list[str]:
    """Return a line for each source that was not seen whole, and what follows from it."""
    consequence = {
        "tasks": "nothing will be started or stopped in this plan",
        "sessions": "nothing will be stopped in this plan",
        "records": "nothing will be done in this plan",
    }
    lines = []
    for name, sight in plan.sights.items():
        if not sight.complete:
            how = "only in part" if sight.quality is Quality.INCOMPLETE else "not at all"
            text = f"{name} were seen {how} ({escaped(sight.detail)}): {consequence[name]}"
            lines += [screen.paint(t, "magenta", bold=True) for t in screen.wrapped(text, "! ", "  ")]
    return lines


def remarks(world: World, plan: Plan, screen: Screen) -> list[str]:
    """Return what stands above everything: a source that was not seen whole, and a pause."""
    lines = sight_lines(plan, screen)
    pause = world.pause
    if pause is not None and pause.in_force(plan.at):
        until = screen.soon(pause.until, plan.at)
        text = f"everything is paused until {until} by {escaped(pause.by)}: {escaped(pause.reason)} (editctl unpause)"
        lines += [screen.paint(t, "magenta", bold=True) for t in screen.wrapped(text, "! ", "  ")]
    return lines


def unread_rows(world: World, plan: Plan) -> list[Quarantined]:
    """Return the unreadable rows that no line of the plan speaks of."""
    told = {a.container_id for a in plan.actions if a.reason is Reason.ROW_QUARANTINED}
    return [r for r in world.quarantined if r.container_id not in told]


def summary(plan: Plan, unread: int = 0) -> str:
    """Return how much of what, and whom it touches, in two sentences."""
    n = plan.counts()
    corrections = n.get("adopt", 0) + n.get("count", 0)
    parts = [
        counted(n.get("start", 0), "start") if n.get("start") else "",
        counted(corrections, "correction") if corrections else "",
        counted(n["cancelDrain"], "cancelled drain") if n.get("cancelDrain") else "",
        counted(n["drain"], "drain") if n.get("drain") else "",
        counted(n["stop"], "stop") if n.get("stop") else "",
        f"{n['defer']:,} deferred" if n.get("defer") else "",
        f"{n['hold']:,} held" if n.get("hold") else "",
        f"{counted(n['record'], 'record')} to bring up to date" if n.get("record") else "",
        f"{counted(unread, 'unreadable row')}" if unread else "",
    ]
    said = ", ".join(p for p in parts if p)
    head = f"{said}." if said else "Nothing to do."
    if said and plan.is_empty and not n.get("record"):
        head = f"Nothing to do: {said}."
    return " ".join(filter(None, [head, _touched(plan)]))


def _touched(plan: Plan) -> str:
    stops = [a for a in plan.changes if a.kind in (ActionKind.DRAIN, ActionKind.STOP)]
    if not stops:
        return ""
    users = {a.identity.user_id if a.identity else a.container_id for a in stops}
    sessions, active = sum(a.sessions for a in stops), sum(a.active_sessions for a in stops)
    name = "Drains" if any(a.kind is ActionKind.DRAIN for a in stops) else "Stops"
    if not sessions:
        return f"{name} touch {counted(len(users), 'user')} and no open session."
    whether = f"{active:,} active" if active else "none active" if sessions > 1 else "not active"
    return f"{name} touch {counted(len(users), 'user')} and {counted(sessions, 'open session')}, {whether}."


def next_lines(
    world: World, plan: Plan, screen: Screen, *, ahead: bool = False, saved_as: str | None = None
) -> list[str]:
    """Return what happens next by itself, and the next useful command."""
    upcoming = upcoming_of(world, plan)
    said = ""
    if upcoming:
        when = screen.soon(upcoming.at, plan.at)
        said = f"Next by itself: {when} {upcoming.what} {escaped(upcoming.container_id)} ({upcoming.reason})."
    if ahead:
        command = "What is due now: editctl plan"
    elif saved_as is not None:
        command = f"Saved. To do just this: editctl apply {shlex.quote(saved_as)}"
    else:
        command = _next_command(world, plan, upcoming)
    return [*(screen.wrapped(said) if said else []), *screen.wrapped(command)]


def _next_command(world: World, plan: Plan, upcoming: Upcoming | None) -> str:
    if plan.changes:
        return "To do this now: editctl apply"
    stuck = next((a for a in plan.actions if a.kind in (ActionKind.HOLD, ActionKind.DEFER)), None)
    which = stuck.container_id if stuck else upcoming.container_id if upcoming else ""
    if which:
        return f"To see why: editctl explain {escaped(which)}"
    if not world.sessions and not world.tasks:
        return "To open a session: editctl session open SESSION --client … --project … --user …"
    return "To see them all: editctl status --all"


_ENDS_IN = {
    Reason.IN_USE: Reason.IDLE,
    Reason.IDLE_GRACE: Reason.IDLE,
    Reason.ORPHAN_GRACE: Reason.ORPHANED,
}
"""Why a drain will come that today's reason keeps away."""


def upcoming_of(world: World, plan: Plan) -> Upcoming | None:
    """Return what happens next by itself, with the reason that it will have.

    What is held until then does not happen, and a launch on its way is not expected to time out.
    """
    timed = [
        a
        for a in plan.actions
        if a.until is not None and a.then and a.reason is not Reason.STARTING and not _is_held(world, a, a.until)
    ]
    if not timed:
        return None
    first = min(timed, key=lambda a: (a.until or 0, a.container_id))
    reason = _ENDS_IN.get(first.reason, first.reason) if first.then == "drain" else first.reason
    if reason is Reason.IDLE and not first.sessions:
        reason = Reason.NO_SESSIONS
    return Upcoming(first.container_id, first.until or 0, first.then, str(reason))


def _is_held(world: World, action: Action, at: Millis) -> bool:
    if action.kind is ActionKind.HOLD:
        # This one ends when its hold does.
        return False
    return any(hold.in_force(at) for hold in (world.pause, hold_of(action)) if hold)


def hold_of(action: Action) -> Hold | None:
    """Return the hold of an operator or of a declaration on the action's container, in force or not."""
    record = action.record
    if record is None:
        return None
    return record.hold or (record.declared.hold if record.declared else None)


# Status

_OF_INTEREST = (
    Phase.FAILED,
    Phase.HELD,
    Phase.STOPPING,
    Phase.DRAINING,
    Phase.STARTING,
    Phase.PENDING,
    Phase.RUNNING,
    Phase.STOPPED,
)
_PHASE_COLOR = {
    Phase.FAILED: "red",
    Phase.HELD: "magenta",
    Phase.STOPPING: "yellow",
    Phase.DRAINING: "yellow",
    Phase.STARTING: "cyan",
    Phase.PENDING: "cyan",
    Phase.RUNNING: "green",
}
SHORT_LIST = 30
"""Lines of `status` without --all."""


def status_lines(
    found: Sequence[Summary], world: World, plan: Plan, screen: Screen, *, show_all: bool = False
) -> list[str]:
    """Return a table of the containers: without show_all those that run or need somebody, and not too many."""
    ordered = sorted(found, key=_interest)
    chosen = ordered if show_all else [s for s in ordered if s.phase is not Phase.STOPPED][:SHORT_LIST]
    holds = {a.container_id: h for a in plan.actions if (h := hold_of(a)) is not None and h.in_force(plan.at)}
    rows = [_status_row(s, holds.get(s.container_id), plan.at, screen) for s in chosen]
    return [
        *remarks(world, plan, screen),
        *(table(("CONTAINER", "PHASE", "SESSIONS", "QUIET", "AGE", "NEXT"), rows, screen) if rows else []),
        *screen.joined([_shown_of(len(chosen), len(found)), *_phases(found), *_outdated(found)]),
        *_status_next(chosen),
    ]


def _interest(s: Summary) -> tuple[int, Millis, str]:
    return _OF_INTEREST.index(s.phase), s.next_at if s.next_at is not None else 1 << 62, s.container_id


def _status_row(s: Summary, hold: Hold | None, now: Millis, screen: Screen) -> tuple[str, ...]:
    sessions = f"{s.active_sessions}/{s.sessions}"
    quiet = duration(now - s.last_activity) if s.last_activity is not None else "-"
    age = duration(now - s.since) if s.since is not None else "-"
    upcoming = f"held until {screen.soon(hold.until, now)}" if hold else _next_of(s, now, screen)
    if s.outdated:
        upcoming = OUTDATED if upcoming == "-" else f"{upcoming}, {OUTDATED}"
    return escaped(s.container_id), str(s.phase), sessions, quiet, age, upcoming


def _next_of(s: Summary, now: Millis, screen: Screen) -> str:
    if s.next_at is not None:
        at = screen.soon(s.next_at, now)
        if s.next_reason == Reason.STARTING:
            return f"ready before {at}"
        idle = s.next_what == "drain" and s.next_reason in (Reason.IN_USE, Reason.IDLE_GRACE)
        return f"{'idle' if idle else s.next_what} at {at}"
    if s.next_what:
        what = "cancel the drain" if s.next_what == ActionKind.CANCEL_DRAIN else s.next_what
        return f"{what} now ({s.next_reason})"
    return str(s.next_reason) if s.phase in (Phase.HELD, Phase.PENDING, Phase.FAILED) else "-"


def _shown_of(shown: int, total: int) -> str:
    return f"{counted(total, 'container')}" if shown == total else f"{shown:,} of {total:,} shown (--all)"


def _phases(found: Sequence[Summary]) -> list[str]:
    order = sorted(Phase, key=lambda phase: (phase is not Phase.RUNNING, phase is Phase.STOPPED))
    counts = {phase: sum(1 for s in found if s.phase is phase) for phase in order}
    said = ", ".join(f"{n:,} {phase.lower()}" for phase, n in counts.items() if n)
    return [said] if said else []


def _outdated(found: Sequence[Summary]) -> list[str]:
    outdated = sum(1 for s in found if s.outdated)
    return [f"{outdated:,} outdated (editctl restart --outdated --idle-only)"] if outdated else []


def _status_next(chosen: Sequence[Summary]) -> list[str]:
    if not chosen:
        return ["To open a session: editctl session open SESSION --client … --project … --user …"]
    return [f"More about one: editctl explain {escaped(chosen[0].container_id)}"]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], screen: Screen) -> list[str]:
    """Return rows under their titles; ids stand in the first column and are never cut.

    On a narrow screen the first column gets a line of its own.
    """
    widths = [max(cells(r[i]) for r in [titles, *rows]) for i in range(len(titles))]
    widths[0] = max(_width_of_ids(r[0] for r in rows), cells(titles[0]))
    narrow = screen.width is not None and sum(widths) + 2 * (len(widths) - 1) > screen.width
    lines = _row(titles, widths, screen, narrow=narrow)
    laid = [screen.paint(text, dim=True) for text in lines]
    for row in rows:
        laid += [_painted(text, row, screen) for text in _row(row, widths, screen, narrow=narrow)]
    return laid


def _row(row: Sequence[str], widths: Sequence[int], screen: Screen, *, narrow: bool) -> list[str]:
    rest = "  ".join(padded(c, w) for c, w in zip(row[1:], widths[1:], strict=True)).rstrip()
    if narrow:
        return [row[0], f"    {rest}"]
    if screen.width is not None and cells(row[0]) > widths[0]:
        return [row[0], " " * (widths[0] + 2) + rest]
    return [f"{padded(row[0], widths[0])}  {rest}"]


def _painted(text: str, row: Sequence[str], screen: Screen) -> str:
    """Return the text with the row's phase, if it has one, in the phase's colour."""
    color = next((c for phase, c in _PHASE_COLOR.items() if phase == row[1]), None)
    head, found, rest = text.rpartition(f"  {row[1]}  ") if color else ("", "", text)
    return f"{head}  {screen.paint(row[1], color)}  {rest}" if found else text


# One container


def explanation_lines(explanation: Explanation, screen: Screen) -> list[str]:
    """Return the headline and the labelled lines below it."""
    width = max((cells(label) for label, _ in explanation.parts), default=0)
    lines = [*screen.wrapped(screen.paint(escaped(explanation.headline), bold=True)), ""]
    for label, texts in explanation.parts:
        for position, text in enumerate(texts):
            first = f"  {padded(label if position == 0 else '', width)}  "
            lines += screen.wrapped(escaped(text), first, " " * (cells(first) + 4))
    return lines

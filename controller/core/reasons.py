"""What each symbol and reason means, in one sentence each. docs/operations.md shows these very sentences."""

from __future__ import annotations

from collections.abc import Mapping

from controller.core.model import Reason

SYMBOLS: Mapping[str, str] = {
    "+": "a task is started, or a launch that was begun is finished",
    "~": "a record, a count or a mark is brought in line with what is; a drain is cancelled",
    "-": "a task is drained or stopped",
    "!": "nothing is done now: the line says what it waits for, or what a person should look at",
    "=": "it stays as it is (`--all` shows these)",
}

MEANINGS: Mapping[Reason, str] = {
    Reason.SESSION_ACTIVE: "A session was active within the idle timeout, or an original session row is open.",
    Reason.WANTED: "Somebody asked for the container and waits for it.",
    Reason.DECLARED: "A declaration says Always, or Stopped.",
    Reason.LAUNCH_UNFINISHED: "A launch was claimed and its answer is not recorded; a repeat gives the same task.",
    Reason.TASK_NOT_RECORDED: "A task runs that the record does not name; the record takes it over.",
    Reason.RECORD_BEHIND: "The record does not say what the task shows: its status or address.",
    Reason.NOT_MARKED: "A task of the original system was taken over and gets this controller's tags.",
    Reason.COUNT_DRIFTED: "sessionCount is not the number of session rows; until it is, nothing is stopped.",
    Reason.EMPTY: "No session row was seen for the first time; the idle clock runs from now.",
    Reason.OCCUPIED: "A session row is there again.",
    Reason.TASK_GONE: "The task that somebody uses is proven STOPPED; a new one follows.",
    Reason.TASK_STOPPED: "The task is proven STOPPED and nobody wants it; the record says so.",
    Reason.LAUNCH_FAILED: "ECS could not place the task, or it died before it was recorded.",
    Reason.LAUNCH_TIMED_OUT: "The task did not become ready within 10 minutes; it is stopped and tried again.",
    Reason.IDLE: "Sessions are open, and none was active for the idle timeout.",
    Reason.NO_SESSIONS: "No session has been open for the idle timeout.",
    Reason.ORPHANED: "A task of ours has no record, session or declaration, in two complete looks.",
    Reason.SUPERSEDED: "A second task on one container id; the record has passed it by.",
    Reason.REQUESTED: "An operator asked for it: `editctl drain` or `restart`.",
    Reason.WANTED_AGAIN: "Somebody came back while the container was being drained; the drain is cancelled.",
    Reason.HELD: "An operator holds this container: nothing is started, drained or stopped.",
    Reason.PAUSED: "An operator paused everything.",
    Reason.IN_USE: "It is wanted, and all is well.",
    Reason.IDLE_GRACE: "It is quiet, and its idle time is not over.",
    Reason.ORPHAN_GRACE: "A task without an owner is too young to be judged.",
    Reason.BUSY: "A busy lease is valid inside the container; it is kept, until the lease's maximum at the latest.",
    Reason.SAVING: "The container is saving its work before it is stopped.",
    Reason.SAVE_FAILED: "The work could not be saved; it is tried again every 5 minutes, for 2 hours.",
    Reason.AGENT_UNREACHABLE: "The agent in the container does not answer; nothing follows from that for 2 hours.",
    Reason.STARTING: "The task is on its way.",
    Reason.STOPPED: "Nothing runs, and nobody wants it.",
    Reason.BACKING_OFF: "Launches failed; the next is tried after a pause of 10 s to 5 min.",
    Reason.STOP_IN_PROGRESS: "A task on this id still runs or stops; its last push could race with a new one's.",
    Reason.LIST_LAG: "The named task is not listed; ECS lags, so that proves nothing for 15 minutes.",
    Reason.SEEN_ONCE: "A task without an owner was seen for the first time; a second look must agree.",
    Reason.BUDGET_EXHAUSTED: "The stops that 5 minutes may have are used up; it is stopped later.",
    Reason.MASS_STOP: "More stops at once than the budget; a second look must agree.",
    Reason.SIGHT_INCOMPLETE: "A read failed or ended early; what it leaves open is not done.",
    Reason.AMBIGUOUS_IDENTITY: "The id can be read as more than one client, project and user, and no row names them.",
    Reason.IDENTITY_CONFLICT: "Two clients, projects or users have the same container id; both are left alone.",
    Reason.FOREIGN: "A task carries one of our ids without our mark; it is left alone, and blocks a start.",
    Reason.ROW_QUARANTINED: "A row of this container cannot be read; it protects the container for 24 hours.",
    Reason.QUEUE_NOT_EMPTY: "A message waits in a session's input queue; the stop went back.",
    Reason.QUEUE_UNKNOWN: "A session's input queue does not answer; the stop went back.",
    Reason.STALE_SESSION: "An original row is older than 12 hours; it is counted and keeps nothing.",
    Reason.CLOCK_UNSURE: "This machine's clock and AWS's differ by more than a minute; nothing is stopped by it.",
    Reason.CLOCK_SKEW: "A time lies more than 5 minutes ahead; it is not believed.",
}

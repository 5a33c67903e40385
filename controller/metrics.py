"""What Prometheus and the probes are told: figures of plans and outcomes, and whether the loop moves.

No label names a session, user or task. The figures are interfaces: names and labels change only with a decision record.
"""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from controller import __version__
from controller.core.conditions import Phase, summaries
from controller.core.model import (
    MINUTE,
    SECOND,
    ActionKind,
    ContainerStatus,
    Millis,
    Outcome,
    OutcomeStatus,
    Plan,
    Quality,
    Step,
    World,
)
from controller.core.policy import Policy
from controller.core.usage import session_use
from controller.errors import ConfigError, PortInUse

# When a series began is one more series for each, and nothing asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGRET: Millis = 10 * MINUTE
"""A container wanted again this soon after its stop was stopped too early."""
_LATE: Millis = 5 * MINUTE
"""A start later than this after its row answers a wish, not the row."""
_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300)


class Metrics:
    """The figures of one controller, in a registry of its own."""

    def __init__(self, policy: Policy, clock: Callable[[], Millis]) -> None:
        self.registry = CollectorRegistry()
        self._policy = policy
        self._clock = clock
        self._last_round: Millis | None = None
        self._shown: dict[str, _Shown] = {}
        self._phases: Tally[str] = Tally()
        self._waiting: Tally[str] = Tally()
        self._states: Tally[str] = Tally()
        self._idle_now: Tally[str] = Tally()
        make = self.registry
        self.containers = Gauge("editctl_containers", "Containers by display phase.", ["phase"], registry=make)
        self.sessions = Gauge("editctl_sessions", "Open sessions: active, quiet or stale.", ["state"], registry=make)
        self.actions = Counter(
            "editctl_actions", "Actions that were carried out.", ["action", "reason", "outcome"], registry=make
        )
        self.deferred = Gauge("editctl_deferred", "Decisions that wait or are held.", ["reason"], registry=make)
        self.rounds = Histogram(
            "editctl_round_seconds", "Length of a round.", ["kind"], registry=make, buckets=_SECONDS
        )
        self.row_to_start = Histogram(
            "editctl_row_to_start_seconds", "From the session's row to RunTask.", registry=make, buckets=_SECONDS
        )
        self.drains = Histogram(
            "editctl_drain_seconds", "From the drain to its end.", ["result"], registry=make, buckets=_SECONDS
        )
        self.saves = Counter("editctl_saves", "Saves of a workspace by result.", ["result"], registry=make)
        self.regretted = Counter(
            "editctl_regretted_stops", "Containers stopped, then wanted again within 10 min.", registry=make
        )
        self.sight = Gauge("editctl_sight", "1 for the quality of each source.", ["source", "quality"], registry=make)
        self.calls = Counter("editctl_aws_calls", "Calls to AWS by result.", ["api", "code"], registry=make)
        self.waits = Counter(
            "editctl_aws_wait_seconds", "Time that actions waited for a quota.", ["bucket"], registry=make
        )
        self.leader = Gauge("editctl_leader", "1 while this controller leads.", registry=make)
        self.idle = Counter(
            "editctl_idle_seconds", "Time that containers ran and nobody was active.", ["client"], registry=make
        )
        build = Gauge("editctl_build_info", "1, with the version.", ["version"], registry=make)
        build.labels(__version__).set(1)

    def text(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        return generate_latest(self.registry)

    def aws_call(self, api: str, code: str) -> None:
        """Count one call to AWS; the code is empty when it worked."""
        self.calls.labels(api, code).inc()

    def quota_wait(self, bucket: str, wait: Millis) -> None:
        """Add what an action waits for its quota."""
        self.waits.labels(bucket).inc(wait / SECOND)

    def outcome(self, done: Outcome) -> None:
        """Take in one outcome."""
        action = done.action
        self.actions.labels(action.kind.value, action.reason.value, done.status.value).inc()
        if done.status is not OutcomeStatus.DONE:
            return
        now, record = self._clock(), action.record
        drain = record.drain if record else None
        if action.step is Step.CLAIM:
            if action.last_activity is not None and 0 <= now - action.last_activity <= _LATE:
                self.row_to_start.observe((now - action.last_activity) / SECOND)
            ended = drain.stopping_at if drain and record and record.status is ContainerStatus.TERMINATED else None
            if ended is not None and now - ended <= REGRET:
                self.regretted.inc()
        if drain and action.step in (Step.TERMINATED, Step.CANCEL_DRAIN):
            result = "stopped" if action.step is Step.TERMINATED else "cancelled"
            self.drains.labels(result).observe(max(now - drain.requested_at, 0) / SECOND)
        if action.step is Step.TERMINATED and record and record.save:
            self.saves.labels(record.save.state).inc()

    def round(self, world: World, plan: Plan, seconds: float, kind: str = "full") -> None:
        """Take in what a round has seen and decided; kind is full or due."""
        self.rounds.labels(kind).observe(seconds)
        for source, sight in plan.sights.items():
            for quality in Quality:
                self.sight.labels(source, quality.value).set(sight.quality is quality)
        if plan.complete:
            self._add_idle()
            self._show(world, plan)

    def _show(self, world: World, plan: Plan) -> None:
        """Take in the containers that were looked at, and show the sums over all."""
        if world.scope is None:
            self._shown.clear()
            for tally in (self._phases, self._waiting, self._states, self._idle_now):
                tally.clear()
        for container_id in world.scope or ():
            self._count(self._shown.pop(container_id, None), -1)
        for container_id, shown in self._figures(world, plan).items():
            self._shown[container_id] = shown
            self._count(shown, 1)
        _set(self.containers, self._phases, (p.value for p in Phase))
        _set(self.deferred, self._waiting)
        _set(self.sessions, self._states, ("active", "quiet", "stale"))

    def _count(self, shown: _Shown | None, by: int) -> None:
        if shown is None:
            return
        for tally, labels in (
            (self._phases, shown.phases),
            (self._waiting, shown.waiting),
            (self._states, shown.states),
            (self._idle_now, shown.idle),
        ):
            for label in labels:
                tally[label] += by
                if not tally[label]:
                    del tally[label]

    def _figures(self, world: World, plan: Plan) -> dict[str, _Shown]:
        found: dict[str, _Shown] = {}
        for s in summaries(plan):
            idle = [s.identity.client_id] if s.phase is Phase.RUNNING and not s.active_sessions and s.identity else []
            found[s.container_id] = _Shown([s.phase.value], idle)
        for action in plan.actions:
            if action.kind in (ActionKind.HOLD, ActionKind.DEFER):
                found.setdefault(action.container_id, _Shown()).waiting.append(action.reason.value)
        now = self._clock()
        for session in world.sessions:
            use = session_use(session, self._policy, self._policy.idle_timeout, world.first_seen, now)
            state = "active" if use.active else "stale" if use.stale else "quiet"
            found.setdefault(session.container_id, _Shown()).states.append(state)
        return found

    def _add_idle(self) -> None:
        """Add the time since the last round for every container that ran and served nobody when it was last seen."""
        now = self._clock()
        passed = (now - self._last_round) / SECOND if self._last_round is not None else 0.0
        self._last_round = now
        for client, containers in self._idle_now.items():
            if passed > 0:
                self.idle.labels(client).inc(passed * containers)


@dataclass(slots=True)
class _Shown:
    """What one container adds to the gauges, by label; of several sessions each its state."""

    phases: list[str] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)


def _set(gauge: Gauge, counts: Tally[str], always: Iterable[str] = ()) -> None:
    """Show these counts and nothing of an earlier round; what is always shown is 0 when it does not occur."""
    gauge.clear()
    for label in {*counts, *always}:
        gauge.labels(label).set(counts[label])


class Health:
    """Whether the loop moves (`live`) and how fresh its last complete resync is (`ready`)."""

    def __init__(self, clock: Callable[[], Millis], poll: Millis, resync: Millis) -> None:
        self._clock = clock
        self._also: Callable[[], str] = str
        self._stalled_after = 3 * poll
        self._stale_after = 2 * resync
        self._moved_at = clock()
        self._complete_at: Millis | None = None
        self._trouble = ""

    def moved(self) -> None:
        """The loop went round once more, whatever came of it."""
        self._moved_at = self._clock()

    def complete(self) -> None:
        """A resync saw everything."""
        self._complete_at = self._clock()
        self._trouble = ""

    def trouble(self, sentence: str) -> None:
        """Nothing may be done at all until this is mended."""
        self._complete_at = None
        self._trouble = sentence

    def wait_for(self, also: Callable[[], str]) -> None:
        """Be ready only when this, too, gives no reason against it."""
        self._also = also

    def live(self) -> str:
        """Return why it is not live, empty when it is."""
        still = self._clock() - self._moved_at
        return f"the loop has not moved for {still // SECOND} s" if still > self._stalled_after else ""

    def ready(self) -> str:
        """Return why it is not ready, empty when it is."""
        if self._complete_at is None:
            return self._trouble or "no complete resync yet"
        age = self._clock() - self._complete_at
        if age > self._stale_after:
            return f"the last complete resync is {age // SECOND} s old"
        return self._also()


class MetricsServer:
    """Answers /metrics, /livez and /readyz in threads of its own; a context manager."""

    def __init__(self, address: str, metrics: Metrics, health: Health) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdigit() or int(port) > 65_535:
            raise ConfigError(
                f"metrics address '{address}' is not HOST:PORT",
                "the port must be a number up to 65535",
                "set --metrics-address or EDITCTL_METRICS_ADDRESS, e.g. 127.0.0.1:9464",
            )
        try:
            self._server = _Server((host.strip("[]") or "127.0.0.1", int(port)), metrics, health)
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {address} for metrics",
                error.strerror or str(error),
                "set EDITCTL_METRICS_ADDRESS to another address, or to nothing to do without",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], metrics: Metrics, health: Health) -> None:
        self.metrics = metrics
        self.health = health
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, self.server.metrics.text(), CONTENT_TYPE_LATEST)
            case "/livez":
                self._probe(self.server.health.live())
            case "/readyz":
                self._probe(self.server.health.ready())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"here are /metrics, /livez and /readyz\n")

    def _probe(self, why_not: str) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if why_not else HTTPStatus.OK
        self._answer(status, f"{why_not or 'ok'}\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not logged: probes come every few seconds."""

"""What running containers hear from the controller, every few minutes: an agent that hears nothing ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from controller.core.model import ContainerStatus, Millis, Session, World
from controller.core.policy import Policy
from controller.core.reads import AgentRef, agent_ref
from controller.reconcile.ports import AgentWriter


@dataclass(frozen=True, slots=True)
class _Running:
    """What one agent is to hear: which drains are cancelled, and which sessions are open."""

    agent: AgentRef
    cancelled_up_to: int
    sessions: tuple[Session, ...]

    @property
    def session_ids(self) -> tuple[str, ...]:
        return tuple(s.session_id for s in self.sessions)


class Keepalives:
    """Sends each running container a keepalive when one is due, or when its sessions have changed.

    It says which drains are cancelled, so that a message that was lost between the record and the agent (a
    controller that died after it had set the record back to running) is made good. What is said may be as old as the
    last look at the container: each drain has a number of its own, so that an old word never cancels a new one.
    """

    def __init__(self, agents: AgentWriter, policy: Policy, clock: Callable[[], Millis], workers: int = 8) -> None:
        self._agents = agents
        self._policy = policy
        self._clock = clock
        self._workers = workers
        self._running: dict[str, _Running] = {}
        self._sent: dict[str, tuple[Millis, tuple[str, ...]]] = {}
        self._news: set[str] = set()
        self._next_at: Millis = 0

    def note(self, world: World) -> None:
        """Take in which containers run, of those that were looked at."""
        if not world.complete:
            return
        for container_id in list(self._running) if world.scope is None else world.scope:
            self._running.pop(container_id, None)
        for container_id, running in _running(world):
            self._running[container_id] = running
            if self._sent.get(running.agent.arn, (0, ("",)))[1] != running.session_ids:
                self._news.add(container_id)
        if world.scope is None:
            arns = {running.agent.arn for running in self._running.values()}
            self._sent = {arn: sent for arn, sent in self._sent.items() if arn in arns}

    def send(self) -> int:
        """Send what is due; return how many agents answered."""
        now = self._clock()
        due = set(self._news)
        if now >= self._next_at:
            due |= {i for i, running in self._running.items() if self._due_at(running) <= now}
        found = [self._running[i] for i in sorted(due) if i in self._running]
        self._news.clear()
        if not found:
            return 0
        with ThreadPoolExecutor(min(self._workers, len(found)), "keepalive") as pool:
            answered = sum(pool.map(self._one, found))
        waiting = (self._due_at(running) for running in self._running.values())
        # Who does not answer is asked again soon, and holds up nobody else.
        self._next_at = max(min(waiting, default=now), now + self._policy.starting_interval)
        return answered

    def _due_at(self, running: _Running) -> Millis:
        return self._sent.get(running.agent.arn, (0, ()))[0] + self._policy.keepalive_interval

    def _one(self, running: _Running) -> bool:
        report = self._agents.keepalive(running.agent, running.cancelled_up_to, running.sessions)
        if not report.unknown:
            self._sent[running.agent.arn] = (self._clock(), running.session_ids)
        return not report.unknown


def _running(world: World) -> Iterator[tuple[str, _Running]]:
    tasks = {t.arn: t for t in world.tasks if t.ready}
    sessions: dict[str, list[Session]] = {}
    for session in world.sessions:
        sessions.setdefault(session.container_id, []).append(session)
    for record in world.records:
        if record.status is not ContainerStatus.RUNNING or record.task_arn not in tasks:
            continue
        agent = agent_ref(record, tasks[record.task_arn or ""])
        if agent:
            mine = tuple(sorted(sessions.get(record.container_id, ()), key=lambda s: s.session_id))
            yield record.container_id, _Running(agent, record.last_drain_id, mine)

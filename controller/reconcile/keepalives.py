"""What running containers hear from the controller, every few minutes: an agent that hears nothing ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from controller.core.model import ContainerRecord, ContainerStatus, Millis, Session, World
from controller.core.policy import Policy
from controller.core.reads import AgentRef, agent_ref
from controller.reconcile.ports import AgentWriter


class Keepalives:
    """Sends each running container a keepalive when one is due, or when its sessions have changed.

    It says which drains are cancelled, so that a message that was lost between the record and the agent (a
    controller that died after it had set the record back to running) is made good.
    """

    def __init__(self, agents: AgentWriter, policy: Policy, clock: Callable[[], Millis], workers: int = 8) -> None:
        self._agents = agents
        self._policy = policy
        self._clock = clock
        self._workers = workers
        self._sent: dict[str, tuple[Millis, tuple[str, ...]]] = {}

    def send(self, world: World) -> int:
        """Send what is due; return how many agents answered."""
        if not world.complete:
            return 0
        due = list(self._due(world))
        if not due:
            return 0
        with ThreadPoolExecutor(min(self._workers, len(due)), "keepalive") as pool:
            return sum(pool.map(lambda item: self._one(*item), due))

    def _due(self, world: World) -> Sequence[tuple[AgentRef, ContainerRecord, tuple[Session, ...]]]:
        tasks = {t.arn: t for t in world.tasks if t.ready}
        sessions: dict[str, list[Session]] = {}
        for session in world.sessions:
            sessions.setdefault(session.container_id, []).append(session)
        running = [r for r in world.records if r.status is ContainerStatus.RUNNING and r.task_arn in tasks]
        found = []
        for record in running:
            agent = agent_ref(record, tasks[record.task_arn or ""])
            mine = tuple(sorted(sessions.get(record.container_id, ()), key=lambda s: s.session_id))
            if agent and self._is_due(agent.arn, mine):
                found.append((agent, record, mine))
        self._sent = {arn: sent for arn, sent in self._sent.items() if arn in tasks}
        return found

    def _is_due(self, arn: str, sessions: tuple[Session, ...]) -> bool:
        at, known = self._sent.get(arn, (0, ()))
        return self._clock() >= at + self._policy.keepalive_interval or known != _ids(sessions)

    def _one(self, agent: AgentRef, record: ContainerRecord, sessions: tuple[Session, ...]) -> bool:
        report = self._agents.keepalive(agent, record.last_drain_id, sessions)
        if not report.unknown:
            self._sent[agent.arn] = (self._clock(), _ids(sessions))
        return not report.unknown


def _ids(sessions: tuple[Session, ...]) -> tuple[str, ...]:
    return tuple(s.session_id for s in sessions)

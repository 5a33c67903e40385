"""Agents in memory: the rules of `controller/agent/drains.py`, one for each task, with switches for trouble."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from controller.agent.drains import Drains
from controller.agent.protocol import (
    ENV_TOKEN_SHA256,
    DrainState,
    Receipt,
    SaveReason,
    SaveState,
    channel_environment,
)
from controller.core.identity import ContainerIdentity
from controller.core.model import AgentReport, DrainProgress, Millis, Save, Session
from controller.core.reads import AgentRef
from controller.errors import ProtocolError

SECRET = b"a channel secret of the tests"


@dataclass
class FakeAgent:
    """One agent: what it serves, and what its workspace has that the remote does not."""

    admitted: bool = False
    drains: Drains = field(default_factory=Drains)
    work: int = 0
    """Changes of the workspace so far."""
    pushed: int = 0
    """What of them the remote has."""
    busy_until: Millis | None = None
    last_activity: Millis | None = None
    sessions: tuple[str, ...] = ()
    receipt_at: int = -1
    """The work that the last receipt covers."""

    @property
    def frozen(self) -> bool:
        """Whether the workload takes no new work."""
        return self.drains.quiet


class FakeAgents:
    """Satisfies AgentReader and AgentWriter. A save that was asked for is made when the agent is next looked at.

    unreachable: ARNs that do not answer. remote_down: saves fail. saving_until: no save ends before.
    """

    def __init__(self, clock: Callable[[], Millis]) -> None:
        self._clock = clock
        self.agents: dict[str, FakeAgent] = {}
        self._silent: dict[str, Millis] = {}
        self.unreachable: set[str] = set()
        self.remote_down = False
        self.saving_until: Millis = 0

    def of(self, arn: str) -> FakeAgent:
        """Return the agent of a task."""
        return self.agents.setdefault(arn, FakeAgent())

    def works(self, arn: str) -> bool:
        """Let the workload change something, as a user's message does; False while it is frozen or not admitted."""
        agent = self.of(arn)
        if not agent.admitted or agent.frozen:
            return False
        agent.work += 1
        agent.last_activity = self._clock()
        return True

    def ends(self, arn: str) -> int:
        """Let SIGTERM come: the last save, and the exit code that tells of it."""
        agent = self.of(arn)
        if not agent.admitted:
            return 0
        if not self.remote_down:
            agent.pushed = agent.work
        return 0 if agent.pushed == agent.work else 75

    def environment(self, identity: ContainerIdentity, generation: int) -> Mapping[str, str]:
        """Return what a launch adds for its agent."""
        return channel_environment(SECRET, identity, generation, 8080)

    def digest(self, identity: ContainerIdentity, generation: int) -> str:
        """Return what the launch tells of the token."""
        return self.environment(identity, generation)[ENV_TOKEN_SHA256]

    def restart(self) -> None:
        """Forget what only the process knows that asks: since when an agent is silent."""
        self._silent.clear()

    # The ports

    def ask(self, agents: Collection[AgentRef]) -> Mapping[str, AgentReport]:
        return {a.arn: self._report(a) for a in agents}

    def keepalive(self, agent: AgentRef, cancelled_up_to: int, sessions: Sequence[Session]) -> AgentReport:
        if agent.arn not in self.unreachable:
            it = self.of(agent.arn)
            it.admitted = True
            it.drains.cancel(cancelled_up_to)
            it.sessions = tuple(s.session_id for s in sessions)
        return self._report(agent)

    def drain(self, agent: AgentRef, drain: int) -> AgentReport:
        if agent.arn not in self.unreachable:
            self.of(agent.arn).drains.ask(drain, self._clock())
        return self._report(agent, save=False)

    def cancel(self, agent: AgentRef, up_to: int) -> AgentReport:
        if agent.arn not in self.unreachable:
            self.of(agent.arn).drains.cancel(up_to)
        return self._report(agent)

    def _report(self, agent: AgentRef, *, save: bool = True) -> AgentReport:
        # As the channel finds the key: by its id, or by the digest of the token that the launch told of.
        if not agent.key_id and agent.token_digest != self.digest(agent.identity, agent.generation):
            raise ProtocolError(f"the agent of {agent.arn} would refuse the token")
        if agent.arn in self.unreachable or not agent.address:
            since = self._silent.setdefault(agent.arn, self._clock())
            return AgentReport(agent.arn, unknown="timed out", unknown_since=since)
        self._silent.pop(agent.arn, None)
        it = self.of(agent.arn)
        if save and it.drains.wanted and self._clock() >= self.saving_until:
            self._save(it)
        view = it.drains.view()
        receipt = view.receipt if view else None
        return AgentReport(
            agent.arn,
            admitted=it.admitted,
            busy_until=it.busy_until,
            last_activity=it.last_activity,
            drain_id=view.id if view else 0,
            drain_since=None if it.drains.asked_at is None else round(it.drains.asked_at),
            progress=DrainProgress(DrainState(view.state).value) if view else None,
            cancelled_up_to=it.drains.cancelled,
            save=Save(
                receipt.state.value, branch="edit/wip", commit=receipt.commit, at=receipt.at, message=receipt.message
            )
            if receipt
            else None,
        )

    def _save(self, it: FakeAgent) -> None:
        if self.remote_down:
            receipt = Receipt(SaveState.FAILED, self._clock(), SaveReason.REMOTE_UNREACHABLE, "the remote is down")
        else:
            it.pushed = it.receipt_at = it.work
            receipt = Receipt(SaveState.SAVED, self._clock(), commit=f"{it.work:040x}")
        it.drains.done(it.drains.current, receipt)

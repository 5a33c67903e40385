"""The channel to the agents as the reconciler needs it: its messages out of our values, its answers into them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from controller.agent.client import AgentClient, Target, Unknown
from controller.agent.protocol import AgentStatus, DrainView, Receipt, SessionView
from controller.core.model import MINUTE, AgentReport, DrainProgress, Millis, Save, Session
from controller.core.reads import AgentRef

_WORKERS = 16
_NOT_ASKED: Millis = 30 * MINUTE
"""Longer than any pause between two looks at what waits for an agent."""


class Channels:
    """Speaks with agents: the ports AgentReader and AgentWriter. Every method may be called from any thread."""

    def __init__(self, client: AgentClient, clock: Callable[[], Millis]) -> None:
        self._client = client
        self._clock = clock
        self._silent: dict[str, tuple[Millis, Millis]] = {}

    def ask(self, agents: Collection[AgentRef]) -> Mapping[str, AgentReport]:
        """Return a report of each, by its task's ARN."""
        if not agents:
            return {}
        self._forget()
        with ThreadPoolExecutor(min(_WORKERS, len(agents)), "agents") as pool:
            return {r.arn: r for r in pool.map(lambda a: self._report(a, self._client.status(_target(a))), agents)}

    def keepalive(self, agent: AgentRef, cancelled_up_to: int, sessions: Sequence[Session]) -> AgentReport:
        """Admit the task, say which drains are cancelled, and hand over the sessions that are open."""
        answer = self._client.keepalive(_target(agent), cancelled_up_to)
        if not isinstance(answer, Unknown):
            views = (SessionView(s.session_id, s.input_queue_url, s.output_queue_url) for s in sessions)
            answer = self._client.put_sessions(_target(agent), tuple(views))
        return self._report(agent, answer)

    def drain(self, agent: AgentRef, drain: int) -> AgentReport:
        """Ask it to save under this id."""
        return self._report(agent, self._client.drain(_target(agent), drain))

    def cancel(self, agent: AgentRef, up_to: int) -> AgentReport:
        """Take back all drains up to this id."""
        return self._report(agent, self._client.cancel(_target(agent), up_to))

    def _report(self, agent: AgentRef, answer: AgentStatus | Unknown) -> AgentReport:
        if isinstance(answer, Unknown):
            return AgentReport(agent.arn, unknown=answer.why, unknown_since=self._silent_since(agent.arn))
        self._silent.pop(agent.arn, None)
        ahead = answer.now - self._clock()

        def ours(theirs: int | None) -> Millis | None:
            return None if theirs is None else theirs - ahead

        drain = answer.drain
        return AgentReport(
            agent.arn,
            admitted=answer.admitted,
            busy_until=ours(answer.busy_until),
            last_activity=ours(answer.last_activity),
            drain_id=drain.id if drain else 0,
            drain_since=ours(drain.asked_at) if drain else None,
            progress=DrainProgress(drain.state.value) if drain else None,
            cancelled_up_to=answer.cancelled_up_to,
            save=_save(drain, answer.last_save, ours),
        )

    def _silent_since(self, arn: str) -> Millis:
        """Return since when it has been asked in vain. Kept in memory only: a restart lengthens what rests on it."""
        now = self._clock()
        since, _ = self._silent.get(arn, (now, now))
        self._silent[arn] = (since, now)
        return since

    def _forget(self) -> None:
        """Drop those that nobody has asked for long: who does not ask does not know that it was silent."""
        limit = self._clock() - _NOT_ASKED
        for arn, (_, last) in list(self._silent.items()):
            if last < limit:
                self._silent.pop(arn, None)


def _target(agent: AgentRef) -> Target:
    return Target(agent.identity, agent.address, agent.arn, agent.generation, agent.key_id, agent.token_digest)


def _save(drain: DrainView | None, last: Receipt | None, ours: Callable[[int | None], Millis | None]) -> Save | None:
    receipt = (drain.receipt if drain else None) or last
    if receipt is None:
        return None
    return Save(
        state=receipt.state.value,
        branch=receipt.branch,
        commit=receipt.commit,
        remote_commit=receipt.remote_commit,
        rescue_ref=receipt.rescue_ref,
        at=ours(receipt.at),
        message=": ".join(filter(None, [receipt.reason.value, receipt.message])),
    )

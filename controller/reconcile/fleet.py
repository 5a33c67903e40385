"""What the last looks left in memory of each container, so that a look at a few need not look at all.

Two things need it: the budgets, which are of the whole fleet, and the question where a container may have tasks beside
the one that its record names. It is never believed: each task that is remembered is described anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from controller.core.model import ContainerStatus, Millis, Others, World


@dataclass(slots=True)
class _Known:
    """Of one container. stop is when its latest stop began."""

    arns: tuple[str, ...] = ()
    live: int = 0
    sessions: int = 0
    draining: bool = False
    stop: Millis | None = None


class Fleet:
    """Figures by container, and their sums; updating and asking cost what the containers asked for cost."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._stops: dict[str, Millis] = {}
        self._live = self._sessions = self._draining = 0

    def note(self, world: World) -> None:
        """Take in a look; an incomplete one is not worth remembering."""
        if not world.complete:
            return
        seen = _figures(world)
        for container_id in list(self._known) if world.scope is None else world.scope:
            self._forget(container_id)
        for container_id, known in seen.items():
            self._known[container_id] = known
            self._live += known.live
            self._sessions += known.sessions
            self._draining += known.draining
            if known.stop is not None:
                self._stops[container_id] = known.stop

    def _forget(self, container_id: str) -> None:
        known = self._known.pop(container_id, None)
        if known is None:
            return
        self._live -= known.live
        self._sessions -= known.sessions
        self._draining -= known.draining
        self._stops.pop(container_id, None)

    def others(self, container_ids: Collection[str], stopped_since: Millis) -> Others:
        """Return the figures of all containers but these; of their stops those since a time, older ones are dropped."""
        self._stops = {i: at for i, at in self._stops.items() if at > stopped_since}
        inside = [known for known in map(self._known.get, container_ids) if known]
        return Others(
            live=self._live - sum(k.live for k in inside),
            draining=self._draining - sum(k.draining for k in inside),
            sessions=self._sessions - sum(k.sessions for k in inside),
            stops=tuple(at for i, at in self._stops.items() if i not in container_ids),
        )

    def arns(self, container_ids: Iterable[str]) -> set[str]:
        """Return the tasks that these containers had when they were last seen, those that had stopped, too."""
        return {arn for i in container_ids if i in self._known for arn in self._known[i].arns}


def _figures(world: World) -> dict[str, _Known]:
    found: dict[str, _Known] = {}
    for task in world.tasks:
        # One that has stopped says, for the hour in which ECS knows it, which generations there were.
        known = found.setdefault(task.container_id, _Known())
        known.arns += (task.arn,)
        known.live += task.live
    for session in world.sessions:
        found.setdefault(session.container_id, _Known()).sessions += 1
    for record in world.records:
        known = found.setdefault(record.container_id, _Known())
        known.draining = record.status is ContainerStatus.DRAINING
        known.stop = record.drain.stopping_at if record.drain else None
    return found

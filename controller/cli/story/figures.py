"""What the demo came to, measured where it happened: in ECS, in the requests, in the controller's log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.cli.story.stage import Planted, SeenTask, Stage
from controller.cli.story.workshop import Workshop
from controller.core.identity import ContainerIdentity
from controller.core.model import Millis, Step
from controller.core.words import counted, duration

__all__ = ["Figures", "Rest", "Saves", "measure"]

STOPPED_BY_US = "editctl: "
"""How the reason of each StopTask of editctl begins."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What was written while nothing was to be done, in some looks; the lease's renewals are counted apart."""

    looks: int
    writes: int
    renewals: int


@dataclass(frozen=True, slots=True)
class Saves:
    """The saves that the agents have given receipts for. `to_receipt` are those of the drains that ended in a stop."""

    number: int
    at_the_remote: int
    to_receipt: Sequence[Millis]


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers. Of tasks, those that the demo planted past the controller are counted in `stopped` alone."""

    run_task_calls: int
    tasks: int
    launches: int
    containers: int
    duplicates: int
    stopped: Mapping[str, int]
    others: int
    others_touched: int
    counts_repaired: int
    to_run_task: Sequence[Millis]
    to_running: Mapping[ContainerIdentity, Millis]
    poll: Millis
    rest: Rest
    saves: Saves | None
    """None without workspaces."""

    @property
    def second_tasks(self) -> int:
        """Tasks beyond one for each launch."""
        return self.tasks - self.launches

    def rows(self, delayed: ContainerIdentity) -> list[tuple[str, str, str]]:
        """Return what is shown: what, how much, a remark. `delayed` is whose controller was killed."""
        whose = self.to_running.keys()
        users, projects = {i.user_id for i in whose}, {(i.client_id, i.project_id) for i in whose}
        slowest = max(ms for identity, ms in self.to_running.items() if identity != delayed)
        late = f"; {duration(self.to_running[delayed])} with the kill" if delayed in whose else ""
        stopped = ", ".join(f"{number} {reason}" for reason, number in self.stopped.items())
        rest = self.rest
        beside = f", beside {counted(rest.renewals, 'renewal')} of the lease" if rest.renewals else ""
        return [
            ("containers", str(self.containers), f"of {len(users)} people on {len(projects)} projects"),
            (
                "tasks started",
                str(self.tasks),
                f"{self.launches - self.containers} of them in place of one that was lost",
            ),
            ("calls to RunTask", str(self.run_task_calls), f"{self.run_task_calls - self.tasks} of them a repeat"),
            ("second tasks", str(self.second_tasks), f"not counting the {self.duplicates} that the demo planted"),
            ("tasks stopped", str(sum(self.stopped.values())), stopped),
            ("others' tasks touched", str(self.others_touched), f"of {self.others}"),
            ("counts repaired", str(self.counts_repaired), ""),
            (
                "row to RunTask",
                duration(max(self.to_run_task)),
                f"at most, of {len(self.to_run_task)}; by polling alone up to {duration(self.poll)}",
            ),
            ("chat to running", duration(slowest), f"at most{late}"),
            *(_rows_of(self.saves) if self.saves else ()),
            ("writes at rest", str(rest.writes), f"in {rest.looks} more looks at each container{beside}"),
        ]


def _rows_of(saves: Saves) -> Iterator[tuple[str, str, str]]:
    found = "all" if saves.at_the_remote == saves.number else str(saves.at_the_remote)
    yield "saves", str(saves.number), f"{found} of them found at the remote"
    if saves.to_receipt:
        yield "drain to receipt", duration(max(saves.to_receipt)), f"at most, of {len(saves.to_receipt)}"


def measure(stage: Stage, opened_at: Mapping[ContainerIdentity, Millis], rest: Rest) -> Figures:
    """Return the figures; opened_at is when somebody first wanted each container."""
    tasks = stage.tasks()
    ours = [t for t in tasks if t.arn not in stage.planted]
    others = [t for t in tasks if t.identity is None]
    reasons = (
        t.stopped_reason.removeprefix(STOPPED_BY_US) for t in tasks if t.stopped_reason.startswith(STOPPED_BY_US)
    )
    return Figures(
        run_task_calls=stage.traffic.count("RunTask"),
        tasks=len(ours),
        launches=len({(t.identity, t.generation) for t in ours}),
        containers=len({t.identity for t in ours}),
        duplicates=sum(1 for kind in stage.planted.values() if kind is Planted.DUPLICATE),
        stopped=Counter(reason.partition(",")[0] for reason in reasons),
        others=len(others),
        others_touched=sum(1 for t in others if not t.live),
        counts_repaired=sum(1 for e in stage.events if e.done and e.step == Step.REPAIR_COUNT),
        to_run_task=[min(t.created_at for t in ours if t.identity == i) - at for i, at in opened_at.items()],
        poll=stage.poll,
        to_running={identity: _running_at(stage, identity) - at for identity, at in opened_at.items()},
        rest=rest,
        saves=_saves(stage, tasks, stage.workshop) if stage.workshop else None,
    )


def _saves(stage: Stage, tasks: Sequence[SeenTask], workshop: Workshop) -> Saves:
    # A task that is stopped after its receipt saves once more, and finds nothing new: a commit counts once.
    found = (save for t in tasks if t.identity for save in workshop.saves(t.arn, t.identity))
    saves = list({save.commit: save for save in reversed(list(found))}.values())
    drains = {identity: stage.record(identity).drain for identity in {save.identity for save in saves}}
    took = [s.at - drain.requested_at for s in saves if (drain := drains[s.identity]) and s.drain == drain.id]
    return Saves(len(saves), sum(1 for s in saves if workshop.is_at_the_remote(s)), took)


def _running_at(stage: Stage, identity: ContainerIdentity) -> Millis:
    return next(e.at for e in stage.events if e.is_up and e.container_id == identity.container_id)

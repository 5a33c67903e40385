"""Whatever becomes of API server, watch and operator: declarations never go back, and status catches up."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import Declaration, Millis
from controller.kubernetes import resource
from controller.kubernetes.objects import Objects
from controller.kubernetes.operator import KubernetesHost
from controller.kubernetes.publisher import Publisher
from tests.builders import identity
from tests.fakes.kubernetes import FakeServer
from tests.simulation import Broken, Simulation

OWNERS = tuple(identity(f"acme-blog-{name}") for name in ("ann", "bob", "tom"))
NAMES = ("first", "second", "third")
STEPS = 40
LABELLED = {resource.ORIGIN_LABEL: resource.ORIGIN_SESSIONS}


class Cluster:
    """A server, people who write to it, and what it said at each moment of who declares a container."""

    def __init__(self, clock: Callable[[], Millis]) -> None:
        self.server = FakeServer(clock)
        self.history: dict[str, list[Declaration | None]] = {owner.container_id: [None] for owner in OWNERS}

    def winner(self, container_id: str) -> resource.Declared | None:
        """Return who declares a container, by the rule of the guide."""
        read = [resource.read(body) for body in self.server.objects.values()]
        asking = [d for d in read if d.identity.container_id == container_id and not d.is_mirror]
        return min(asking, key=lambda d: (d.created_at, d.name), default=None)

    def note(self) -> None:
        """Take note of who declares what now."""
        for container_id, past in self.history.items():
            winner = self.winner(container_id)
            declaration = winner.declaration if winner else None
            if past[-1] != declaration:
                past.append(declaration)

    def create(self, name: str, owner: ContainerIdentity, spec: dict[str, Any]) -> None:
        body = resource.mirror_of(owner, "n")
        body["metadata"] = {"namespace": "n", "name": name}
        body["spec"] |= spec
        self.server.ask("POST", "/editcontainers", body)

    def merge(self, name: str, patch: dict[str, Any]) -> None:
        self.server.ask("PATCH", f"/editcontainers/{name}", patch)

    def delete(self, name: str) -> None:
        self.server.ask("DELETE", f"/editcontainers/{name}", {})


class Operator:
    """One process of the operator: it lists, watches, declares and shows."""

    def __init__(self, cluster: Cluster, simulation: Simulation) -> None:
        self.server = cluster.server
        self.simulation = simulation
        self.objects = Objects()
        self.publisher = Publisher(cluster.server.api(), self.objects, simulation.clock, lambda _: None)
        self.host = KubernetesHost(self.objects, simulation.tables, self.publisher, lambda _: None)
        self.controller = simulation.new_controller()
        self.seen = 0
        self.replayed: list[dict[str, Any]] = []
        self.replay()

    def replay(self) -> None:
        """Begin to watch, as after 410: what is there is told, one by one; what went meanwhile is not."""
        if not self.server.away:
            self.publisher.relist()
            self.seen = len(self.server.told)
            self.replayed = [copy.deepcopy(self.server.objects[name]) for name in sorted(self.server.objects)]

    def watch(self, most: int) -> None:
        """Be told of some of what has happened."""
        if self.server.away:
            return
        for _ in range(most):
            if self.replayed:
                self.objects.put(self.replayed.pop())
            elif self.seen < len(self.server.told):
                kind, body = self.server.told[self.seen]
                self.objects.remove(body) if kind == "DELETED" else self.objects.put(body)
                self.seen += 1

    def round(self) -> None:
        self.host.before(None)
        done = self.controller.round()
        self.simulation.check()
        self.host.after(done)


class Story:
    """What happens in one schedule."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.simulation = Simulation(agents=True)
        self.cluster = Cluster(self.simulation.clock)
        self.operator = Operator(self.cluster, self.simulation)
        self.open: dict[str, ContainerIdentity] = {}
        self.at: dict[str, int] = dict.fromkeys(self.cluster.history, 0)
        self.happened: Counter[str] = Counter()

    @property
    def server(self) -> FakeServer:
        return self.cluster.server

    def run(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (4, self.apply),
            (4, self.edit),
            (2, self.delete),
            (1, self.relabel),
            (3, self.session),
            (2, self.outage),
            (2, self.break_watch),
            (1, self.restart),
        ]
        for _ in range(STEPS):
            [step] = self.chance.choices([s for _, s in steps], [w for w, _ in steps])
            step()
            self.cluster.note()
            self.operator.watch(self.chance.choice([0, 1, 3, 100]))
            if self.chance.random() < 0.6:
                self.operator.publisher.turn()
            if self.chance.random() < 0.7:
                self.operator.round()
            if self.chance.random() < 0.3:
                # Somebody writes between the round and what is written of it.
                self.edit()
                self.cluster.note()
            if self.chance.random() < 0.6:
                self.operator.publisher.turn()
            self.check_declared()
            self.simulation.clock.step(seconds=self.chance.choice([0.2, 2, 2, 20, 70, 600]))

    # What people and machines do

    def apply(self) -> None:
        if self.server.away:
            return
        name, owner = self.chance.choice(NAMES), self.chance.choice(OWNERS)
        if name not in self.server.objects:
            self.cluster.create(name, owner, {"runPolicy": self.chance.choice(["Auto", "Always", "Stopped"])})

    def edit(self) -> None:
        if self.server.objects and not self.server.away:
            name = self.chance.choice(sorted(self.server.objects))
            self.cluster.merge(name, {"spec": {"runPolicy": self.chance.choice(["Auto", "Always", "Stopped"])}})

    def delete(self) -> None:
        if self.server.objects and not self.server.away:
            self.cluster.delete(self.chance.choice(sorted(self.server.objects)))

    def relabel(self) -> None:
        if self.server.objects and not self.server.away:
            name = self.chance.choice(sorted(self.server.objects))
            is_mirror = resource.is_mirror(self.server.objects[name])
            labels = dict.fromkeys(LABELLED) if is_mirror else LABELLED
            self.cluster.merge(name, {"metadata": {"labels": labels}})

    def session(self) -> None:
        if self.open and self.chance.random() < 0.5:
            session_id = self.chance.choice(sorted(self.open))
            self.simulation.registry.release(session_id)
            del self.open[session_id]
        else:
            session_id, owner = f"s{self.simulation.clock()}", self.chance.choice(OWNERS)
            self.simulation.registry.open(session_id, owner)
            self.open[session_id] = owner

    def outage(self) -> None:
        self.server.away = not self.server.away
        self.happened["outages"] += self.server.away

    def break_watch(self) -> None:
        self.happened["breaks"] += 1
        self.operator.replay()

    def restart(self) -> None:
        self.happened["restarts"] += 1
        self.operator = Operator(self.cluster, self.simulation)

    # What must hold

    def check_declared(self) -> None:
        """What a record declares was so on the server at some time, and never at an earlier one than before."""
        for container_id, past in self.cluster.history.items():
            record = self.simulation.tables.get_record(container_id)
            declared = record.declared if record else None
            later = [n for n in range(self.at[container_id], len(past)) if past[n] == declared]
            if not later:
                raise Broken(f"{container_id} is declared {declared}, after {past[self.at[container_id]]}")
            self.at[container_id] = later[0]

    def end(self) -> None:
        """Let the server answer, and everything come to rest: after an hour nobody's session is active."""
        self.server.away = False
        self.operator.watch(10_000)
        self.operator.publisher.relist()
        for _ in range(60):
            self.operator.publisher.turn()
            self.operator.round()
            self.operator.publisher.turn()
            self.operator.watch(10_000)
            self.cluster.note()
            self.check_declared()
            self.simulation.clock.step(minutes=1)

    def check_end(self) -> None:
        shown = set()
        for owner in OWNERS:
            container_id = owner.container_id
            record = self.simulation.tables.get_record(container_id)
            winner = self.cluster.winner(container_id)
            assert (record.declared if record else None) == (winner.declaration if winner else None)
            name = winner.name if winner else owner.kubernetes_name
            status = str(record.status) if record and record.status else ""
            if winner is None and name not in self.server.objects:
                assert not any(o == owner for o in self.open.values())
                assert self.simulation.live(container_id) == []
                continue
            shown.add(name)
            body = self.server.objects[name]
            assert body["status"]["observedGeneration"] == body["metadata"]["generation"]
            assert body["status"]["sessionCount"] == sum(o == owner for o in self.open.values())
            runs = {t["taskArn"] for t in self.simulation.live(container_id)}
            assert body["status"].get("taskArn") in (runs or {None}), (body["status"], status)
        for name in self.server.objects.keys() - shown:
            [ready] = [c for c in self.server.objects[name]["status"]["conditions"] if c["type"] == "Ready"]
            assert (ready["status"], ready["reason"]) == ("False", "Superseded")

    def check_rest(self) -> None:
        """Nothing is written when nothing happens."""
        asked, writes = self.server.asked.copy(), self.simulation.writes()
        for _ in range(3):
            self.operator.publisher.turn()
            self.operator.round()
            self.simulation.clock.step(seconds=1)
        changes = {verb: n - asked[verb] for verb, n in self.server.asked.items() if verb != "list"}
        assert not any(changes.values()), changes
        assert self.simulation.writes() == writes


def tell(seed: int) -> Counter[str]:
    """Live through one schedule; return what happened in it."""
    story = Story(seed)
    try:
        story.run()
        story.end()
        story.check_end()
        story.check_rest()
    except Exception as error:
        raise Broken(f"seed {seed}: {type(error).__name__}: {error}") from error
    return story.happened + story.server.asked


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_declarations_never_go_back_and_status_catches_up(start: int) -> None:
    happened: Counter[str] = Counter()
    for seed in range(start, start + 50):
        happened += tell(seed)
    # Schedules in which nothing goes wrong show nothing.
    assert all(happened[what] > 20 for what in ("outages", "breaks", "restarts", "create", "patch", "delete", "event"))


# Whether these schedules would notice


def _fixed(value: Any) -> property:
    return property(lambda self: value, lambda self, _: None)


def declares_before_all_is_known(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Objects, "listed", _fixed(value=True), raising=False)


def forgets_what_was_listed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Objects, "_listed_at", _fixed(-1), raising=False)


def takes_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KubernetesHost, "_take_back", lambda self, records: None)


MUTANTS = (declares_before_all_is_known, forgets_what_was_listed, takes_nothing_back)


@pytest.mark.parametrize("spoil", MUTANTS, ids=lambda m: m.__name__)
def test_every_mutant_is_caught(spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    with pytest.raises(Broken):
        _tell_all()


def _tell_all() -> None:
    for seed in range(300):
        tell(seed)

"""The operator's parts that need no API server: what is known of objects, what is told, a server that fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import kopf
import pytest

from controller.core.model import Action, ActionKind, Outcome, OutcomeStatus, Reason, Step
from controller.errors import ConfigError
from controller.kubernetes import resource
from controller.kubernetes.api import Api, ApiError
from controller.kubernetes.events import AGAIN_AFTER, MOST_KEPT, WAITS, Events
from controller.kubernetes.objects import Objects, Seen
from controller.kubernetes.operator import AT_ONCE, KubernetesHost, hosting
from controller.kubernetes.publisher import Publisher, Show
from controller.reconcile.due import Due
from tests.agent.world import until
from tests.builders import identity
from tests.fakes.clock import FakeClock
from tests.fakes.kubernetes import FakeServer
from tests.fakes.tables import FakeTables

TOM, ANN = identity("acme-blog-tom"), identity("acme-blog-ann")


def seen(name: str = "tom", owner: Any = TOM, version: int = 1, **more: Any) -> dict[str, Any]:
    body = resource.mirror_of(owner, "n")
    body["spec"] |= more.pop("spec", {})
    body["metadata"] = {
        "namespace": "n",
        "name": name,
        "uid": f"uid-{name}",
        "generation": 1,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-03-02T10:00:00Z",
        **more,
    }
    return body


def mirror(owner: Any = TOM, version: int = 1) -> dict[str, Any]:
    labels = {resource.ORIGIN_LABEL: resource.ORIGIN_SESSIONS}
    return seen(owner.kubernetes_name, owner, version, labels=labels)


# Objects


def test_an_older_state_is_no_news_whoever_tells_it() -> None:
    objects = Objects()
    assert objects.put(seen(version=5, generation=2)) == TOM.container_id
    assert objects.put(seen(version=4)) is None
    assert objects.put(seen(version=5)) is None
    winner = objects.of(TOM.container_id).winner
    assert winner is not None
    assert (winner.version, winner.generation) == (5, 2)


def test_one_that_was_deleted_does_not_come_back_by_an_older_word() -> None:
    objects = Objects()
    objects.put(seen(version=5))
    assert objects.remove(seen(version=8)) == TOM.container_id
    assert objects.put(seen(version=6)) is None
    assert objects.of(TOM.container_id).winner is None
    # Another one of its name is another one.
    assert objects.put(seen(version=9, uid="another")) == TOM.container_id


def test_the_end_of_an_earlier_one_does_not_take_the_one_that_came_since() -> None:
    objects = Objects()
    objects.put(seen(version=5))
    objects.replace([seen(version=9, uid="another")], 9)
    objects.take_changed()
    assert objects.remove(seen(version=8)) is None
    winner = objects.of(TOM.container_id).winner
    assert winner is not None
    assert winner.uid == "another"
    assert objects.take_changed() == frozenset()


def test_a_list_takes_away_what_is_not_in_it_unless_that_is_newer() -> None:
    objects = Objects()
    objects.put(seen(version=5))
    objects.put(seen("ann", ANN, version=12))
    known = [objects.listed]
    objects.replace([], 10)
    assert [*known, objects.listed] == [False, True]
    assert objects.containers() == {ANN.container_id}
    assert objects.take_changed() == {TOM.container_id, ANN.container_id}


def test_the_watch_may_lag_behind_a_list_and_behind_a_deletion() -> None:
    objects = Objects()
    objects.put(seen(version=5))
    objects.replace([], 10)
    # Told later of what the list no longer had, and of what had been deleted before it was told of.
    assert objects.put(seen(version=7, generation=2)) is None
    assert objects.put(seen("ann", ANN, version=12)) == ANN.container_id
    objects.remove(seen("ann", ANN, version=12))
    assert objects.put(seen("ann", ANN, version=14, generation=2)) is None
    assert objects.containers() == frozenset()


def test_a_list_that_was_asked_for_before_a_deletion_does_not_undo_it() -> None:
    objects = Objects()
    objects.put(seen(version=5))
    objects.remove(seen(version=12))
    objects.replace([seen(version=5)], 10)
    assert objects.of(TOM.container_id).winner is None


def test_a_server_that_was_restored_from_a_copy_is_believed() -> None:
    objects = Objects()
    objects.replace([seen(version=900, generation=4), seen("ann", ANN, version=901)], 1_000)
    objects.take_changed()
    assert objects.replace([seen(version=20)], 30) == {TOM.container_id, ANN.container_id}
    winner = objects.of(TOM.container_id).winner
    assert winner is not None
    assert winner.generation == 1
    assert objects.put(seen(version=31, generation=2)) == TOM.container_id


def test_mirrors_that_come_need_no_record_to_be_read() -> None:
    objects = Objects()
    objects.replace([mirror(), mirror(ANN)], 9)
    assert objects.take_changed() == frozenset()
    labelled = mirror()
    labelled["metadata"] |= {"labels": {}, "resourceVersion": "10"}
    assert objects.put(labelled) == TOM.container_id
    assert objects.take_changed() == {TOM.container_id}


def test_what_cannot_be_read_is_known_until_it_is_mended_or_goes() -> None:
    objects = Objects()
    objects.put(seen(version=1))
    objects.put(seen(version=2, generation=2, spec={"runPolicy": "Nightly"}))
    assert [each.name for each in objects.unread()] == ["tom"]
    assert objects.is_unread("uid-tom")
    assert objects.of(TOM.container_id).winner is None
    objects.put(seen(version=3, generation=3))
    assert objects.unread() == ()
    objects.put(seen(version=4, generation=4, spec={"runPolicy": "Nightly"}))
    objects.remove(seen(version=5))
    assert objects.unread() == ()


# The host


def test_a_round_waits_for_so_many_writes_and_no_more(clock: FakeClock) -> None:
    objects, tables, looks = Objects(), FakeTables(clock), list[str]()
    publisher = Publisher(api_of("https://127.0.0.1:1", clock), objects, clock, looks.append)
    host = KubernetesHost(objects, tables, publisher, looks.append)
    many = [identity(f"acme-blog-u{number:03d}") for number in range(AT_ONCE + 20)]
    objects.replace([seen(f"o{n}", owner) for n, owner in enumerate(many)], 9)
    last = many[-1].container_id
    host.before(frozenset({last}))
    declared = [owner for owner in many if tables.get_record(owner.container_id)]
    assert len(declared) == AT_ONCE
    # First comes who is looked at now; the others are due again.
    assert tables.get_record(last) is not None
    assert set(looks) == {owner.container_id for owner in many} - {owner.container_id for owner in declared}
    host.before(None)
    assert all(tables.get_record(owner.container_id) for owner in many)


# The publisher's thread


class Hasty(Publisher):
    """One that is told more just when it is about to wait."""

    def __init__(self, server: FakeServer, objects: Objects, clock: FakeClock) -> None:
        super().__init__(server.api(), objects, clock, lambda _: None)
        self.turns = 0

    def turn(self) -> float:
        wait = super().turn()
        self.turns += 1
        if self.turns == 1:
            self.relist()
        return wait


def test_what_comes_between_two_turns_is_not_waited_for(clock: FakeClock) -> None:
    server = FakeServer(clock)
    publisher = Hasty(server, Objects(), clock)
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.asked["list"] == 2, 5, "the second list")
    finally:
        publisher.close()
        thread.join(10)
    assert not thread.is_alive()


def test_a_server_that_is_away_is_not_asked_sooner_whoever_has_news(clock: FakeClock) -> None:
    server = FakeServer(clock)
    server.away = True
    publisher = Hasty(server, Objects(), clock)
    publisher.turns = 1
    for _ in range(5):
        publisher.turn()
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    try:
        until(lambda: publisher.turns == 7, 5, "the first turn of its thread")
        for _ in range(20):
            publisher.wake()
            publisher.show({"x": Show("x", None)})
        assert publisher.turns == 7
    finally:
        publisher.close()
        thread.join(10)
    assert not thread.is_alive()


# Events


def outcome(message: str, container: str = "acme-blog-tom", status: OutcomeStatus = OutcomeStatus.DONE) -> Outcome:
    action = Action(ActionKind.START, container, Reason.SESSION_ACTIVE, "", Step.CLAIM, TOM)
    return Outcome(action, status, message)


def test_what_is_told_again_is_counted_and_told_with_its_number_later(clock: FakeClock) -> None:
    events = Events(clock)
    began = clock()
    assert events.tell(outcome("task 3f2c9d, generation 1"))
    for generation in range(2, 7):
        clock.step(seconds=30)
        assert not events.tell(outcome(f"task 77ab0{generation}, generation {generation}"))
    clock.set(began + AGAIN_AFTER)
    assert events.tell(outcome("task 9a2b01, generation 7"))
    first, later = (e.about(tom_as_seen()) for e in events.take())
    assert (first["count"], later["count"]) == (1, 6)
    assert (later["firstTimestamp"], later["lastTimestamp"]) == (resource.stamp(began), resource.stamp(clock()))
    assert first["metadata"]["name"] != later["metadata"]["name"]


def test_another_word_is_another_event_and_what_was_skipped_is_none(clock: FakeClock) -> None:
    events = Events(clock)
    assert events.tell(outcome("task 3f2c9d, generation 1"))
    assert events.tell(outcome("CannotPullContainerError", status=OutcomeStatus.FAILED))
    assert events.tell(outcome("task 3f2c9d, generation 1", container="acme-blog-ann"))
    assert not events.tell(outcome("waits for the quota", status=OutcomeStatus.SKIPPED))
    assert [e.about(tom_as_seen())["type"] for e in events.take()] == ["Normal", "Warning", "Normal"]


def test_events_wait_for_their_object_and_not_for_ever(clock: FakeClock) -> None:
    events = Events(clock)
    events.tell(outcome("one"))
    clock.step(ms=WAITS - 1)
    waiting = events.take()
    events.tell(outcome("two"))
    events.put_back(waiting)
    assert [e.outcome.message for e in events.take()] == ["one", "two"]
    clock.step(ms=1)
    events.put_back(waiting)
    assert events.take() == []


def test_a_flood_costs_the_oldest(clock: FakeClock) -> None:
    events = Events(clock)
    for number in range(MOST_KEPT + 5):
        events.tell(outcome("one", container=f"c{number}"))
    assert [e.container_id for e in events.take()] == [f"c{number}" for number in range(5, MOST_KEPT + 5)]


def tom_as_seen() -> Seen:
    objects = Objects()
    objects.put(seen())
    winner = objects.of(TOM.container_id).winner
    assert winner is not None
    return winner


# A server that fails


def api_of(url: str, clock: FakeClock, **access: Any) -> Api:
    return Api(lambda: kopf.ConnectionInfo(server=url, **access), "n", clock)


@pytest.fixture
def cut() -> Iterator[str]:
    """Return the URL of a server that breaks off in the middle of each answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller:
                    caller.recv(65_536)
                    caller.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items": [')

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_an_answer_that_breaks_off_is_an_outage(cut: str, clock: FakeClock) -> None:
    api = api_of(cut, clock)
    with pytest.raises(ApiError) as caught:
        api.list()
    assert caught.value.status == 0
    publisher = Publisher(api, Objects(), clock, lambda _: None)
    assert [publisher.turn() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert publisher.trouble


def test_credentials_that_cannot_be_read_are_an_outage(clock: FakeClock) -> None:
    def login() -> kopf.ConnectionInfo:
        raise KeyError("current-context")

    with pytest.raises(ApiError, match="no credentials can be read: KeyError") as caught:
        Api(login, "n", clock).list()
    assert caught.value.status == 0


def test_without_an_api_server_it_says_what_to_do(clock: FakeClock) -> None:
    with pytest.raises(ConfigError) as caught, hosting(FakeTables(clock), Due(), clock):
        pass
    assert "KUBECONFIG" in caught.value.lines()[2]

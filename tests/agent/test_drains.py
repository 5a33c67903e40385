"""Drain ids, receipts and cancels: every order of messages, against the model that the protocol was checked with."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from controller.agent.drains import Drains
from controller.agent.protocol import DrainState, Receipt, SaveReason, SaveState
from controller.core.model import SUPERSEDED_DRAIN

IDS = (1, 2, 3)
MOST_WORK = 3


class Model(NamedTuple):
    """The agent of the explicit-state model, transcribed: what it serves, what is cancelled, its receipt, its work."""

    drain: int = 0
    cancelled: int = 0
    receipt: tuple[int, int] | tuple[()] = ()
    work: int = 0

    def post(self, drain: int) -> Model:
        if drain <= self.cancelled or drain < self.drain:
            return self
        kept = self.receipt if self.receipt and self.receipt[0] == drain else ()
        return self._replace(drain=drain, receipt=kept)

    def delete(self, up_to: int) -> Model:
        if self.drain <= up_to:
            return self._replace(drain=0, cancelled=max(self.cancelled, up_to), receipt=())
        return self._replace(cancelled=max(self.cancelled, up_to))

    def save(self) -> Model:
        return self._replace(receipt=(self.drain, self.work)) if self.drain and not self.receipt else self

    @property
    def takes_no_work(self) -> bool:
        return bool(self.drain and self.receipt)


class World(NamedTuple):
    """Ours beside the model's, with the save that is under way: (drain, work when it began)."""

    ours: tuple
    model: Model
    saving: tuple[int, int] | None = None
    asked: tuple[tuple[int, int], ...] = ()
    """For each drain that was asked for: the work at that time."""


def receipt(state: SaveState, work: int) -> Receipt:
    return Receipt(state, at=work, reason=SaveReason.NONE)


def frozen(drains: Drains) -> tuple:
    receipts = [each and (each.state, each.at) for each in (drains.receipt, drains.failed)]
    return (drains.current, drains.cancelled, *receipts, drains.wanted)


def thawed(state: tuple) -> Drains:
    current, cancelled, saved, failed, wanted = state
    return Drains(current, cancelled, saved and receipt(*saved), failed and receipt(*failed), wanted)


def steps(world: World):
    """Yield every next world, with what happened."""
    ours, model = thawed(world.ours), world.model
    for drain in IDS:
        mine = thawed(world.ours)
        mine.ask(drain)
        after = model.post(drain)
        asked = dict(world.asked)
        if after.drain == drain:
            asked.setdefault(drain, model.work)
        yield f"post {drain}", world._replace(ours=frozen(mine), model=after, asked=tuple(sorted(asked.items())))
        mine = thawed(world.ours)
        mine.cancel(drain)
        yield f"cancel {drain}", world._replace(ours=frozen(mine), model=model.delete(drain))
    if model.work < MOST_WORK and not ours.quiet:
        yield "work", world._replace(model=model._replace(work=model.work + 1))
    if world.saving is None and ours.wanted:
        yield "save begins", world._replace(saving=(ours.current, model.work))
    if world.saving is not None:
        drain, work = world.saving
        mine = thawed(world.ours)
        had = bool(mine.receipt)
        mine.done(drain, receipt(SaveState.SAVED, work))
        after = model.save() if bool(mine.receipt) != had else model
        yield "save succeeds", world._replace(ours=frozen(mine), model=after, saving=None)
        mine = thawed(world.ours)
        mine.done(drain, receipt(SaveState.FAILED, work))
        yield "save fails", world._replace(ours=frozen(mine), saving=None)


def check(world: World) -> None:
    ours, model = thawed(world.ours), world.model
    assert (ours.current, ours.cancelled) == (model.drain, model.cancelled)
    assert bool(ours.receipt) == bool(model.receipt)
    assert ours.quiet or not model.takes_no_work
    if ours.receipt and model.receipt:
        assert ours.receipt.at == model.receipt[1], "the receipt is of another state of the workspace"
        assert ours.receipt.at >= dict(world.asked)[ours.current], "a receipt that is older than its drain"
        assert ours.receipt.at == model.work, "work after the receipt"
    view = ours.view()
    assert (view is None) == (ours.current == 0)
    if view and ours.receipt:
        assert view.state is DrainState.SAVED


def test_every_order_agrees_with_the_model():
    first = World(frozen(Drains()), Model())
    seen = {first}
    waiting = deque([first])
    transitions = 0
    while waiting:
        world = waiting.popleft()
        check(world)
        for _, after in steps(world):
            transitions += 1
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    assert len(seen) > 1000, (len(seen), transitions)


def test_a_cancelled_id_is_never_served():
    drains = Drains()
    drains.cancel(5)
    drains.ask(5)
    assert drains.view() is None
    drains.ask(6)
    assert drains.wanted


def test_an_older_id_does_not_replace_a_newer_one():
    drains = Drains()
    drains.ask(7)
    drains.ask(6)
    assert drains.current == 7


def test_a_failed_save_is_tried_again_when_asked_again():
    drains = Drains()
    drains.ask(1)
    drains.done(1, receipt(SaveState.FAILED, 0))
    assert (drains.wanted, drains.quiet) == (False, False)
    view = drains.view()
    assert view
    assert view.state is DrainState.FAILED
    drains.ask(1)
    assert drains.wanted


def test_a_partial_save_is_no_receipt():
    drains = Drains()
    drains.ask(1)
    drains.done(1, receipt(SaveState.PARTIAL, 0))
    assert drains.receipt is None


def test_when_a_drain_was_first_asked_for_stays_until_it_is_another_or_taken_back():
    drains = Drains()
    drains.ask(1, 10.0)
    drains.ask(1, 20.0)
    assert drains.asked_at == 10.0
    drains.done(1, receipt(SaveState.FAILED, 0))
    drains.ask(1, 30.0)
    assert drains.asked_at == 10.0
    drains.ask(2, 40.0)
    assert drains.asked_at == 40.0
    drains.cancel(2)
    assert drains.asked_at is None


def test_no_word_of_a_record_takes_the_drain_of_a_superseded_task_back():
    drains = Drains()
    drains.ask(7, 10.0)
    drains.ask(SUPERSEDED_DRAIN, 20.0)
    drains.done(SUPERSEDED_DRAIN, receipt(SaveState.SAVED, 0))
    for number in (7, 8, 1_000_000):
        drains.cancel(number)
        drains.ask(number, 30.0)
    assert (drains.current, drains.asked_at, drains.quiet) == (SUPERSEDED_DRAIN, 20.0, True)
    assert drains.receipt is not None

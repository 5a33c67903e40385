"""A saved plan: what still holds is done, what the world has passed by is named."""

from dataclasses import replace

import pytest

from controller.core.fingerprint import VERSION, fingerprint
from controller.core.model import Reason
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from controller.core.saved import save, select
from tests.builders import NOW, ago, arn, ms, record, session, task, world

IDLE = (session(age="22m"), record(age="22m"), task())
COMING = session("s2", "acme-shop-eva")


def plan_of(*things, at=NOW):
    return compute_plan(world(*things), Policy(), at)


def test_what_has_not_changed_is_done_however_late():
    saved = save(plan_of(*IDLE, COMING), "webordinary")
    later = plan_of(*IDLE, COMING, at=NOW + ms("5m"))
    selection = select(later, saved)
    assert [str(a.kind) for a in selection.plan.changes] == ["start", "drain"]
    assert selection.stale == ()


@pytest.mark.parametrize(
    "changed",
    [
        (session(age="1s"), record(age="1s"), task()),
        (session(age="22m"), record(age="21.9m"), task()),
        (session(age="22m"), record(age="22m", generation=2), task()),
        (session(age="22m"), session("s9", age="22m"), record(age="22m", session_count=2), task()),
        (record("terminated", session_count=0),),
    ],
    ids=["touched", "fence moved", "another generation", "another session", "stopped by others"],
)
def test_a_drain_whose_container_changed_is_stale(changed):
    saved = save(plan_of(*IDLE, COMING), "webordinary")
    selection = select(plan_of(*changed, COMING), saved)
    assert [s.saved.action for s in selection.stale] == ["drain"]
    assert [str(a.kind) for a in selection.plan.changes] == ["start"]


def test_what_was_not_shown_is_not_done():
    saved = save(plan_of(*IDLE), "webordinary")
    selection = select(plan_of(*IDLE, COMING), saved)
    assert [a.container_id for a in selection.plan.changes] == ["acme-blog-tom"]


def test_a_stale_start_names_what_would_be_done_now():
    saved = save(plan_of(COMING), "webordinary")
    runs = record("running", "acme-shop-eva", task_arn=arn(2), session_count=3)
    (stale,) = select(plan_of(COMING, runs, task(2, "acme-shop-eva")), saved).stale
    assert stale.saved.action == "start"
    assert stale.now is not None
    assert stale.now.reason is Reason.COUNT_DRIFTED


def test_fingerprints_do_not_depend_on_passing_time_or_words():
    (drain,) = plan_of(*IDLE).changes
    assert fingerprint(drain) == fingerprint(replace(drain, message="in other words", until=ago("3m")))
    assert fingerprint(drain).startswith(f"{VERSION}:")
    assert fingerprint(drain) != fingerprint(replace(drain, sessions=2))

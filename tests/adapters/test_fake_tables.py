"""What only the in-memory tables can do: be late, break off, fail on request, and say what was written."""

from __future__ import annotations

import pytest

from controller.aws.rows import RECORDS, SESSIONS
from controller.core import ledger
from controller.core.model import ContainerRecord, Quality, Session
from controller.errors import Throttled, Unavailable
from tests.builders import NOW, TOM, identity
from tests.fakes.clock import FakeClock
from tests.fakes.tables import FakeTables

OWNER = identity(TOM)


@pytest.fixture
def tables(clock: FakeClock) -> FakeTables:
    return FakeTables(clock, page_size=2)


def fill(tables: FakeTables, count: int) -> None:
    for i in range(count):
        tables.open(Session(f"s{i}", TOM, OWNER), OWNER, NOW)


def test_stale_reads_are_late_and_strong_ones_are_not(tables: FakeTables, clock: FakeClock) -> None:
    tables.session_lag = tables.record_lag = 5_000
    fill(tables, 1)
    clock.step(seconds=3)
    tables.release("s0", TOM, clock.now())

    assert tables.read_sessions().sessions == ()
    assert tables.get_session("s0") is None
    clock.step(seconds=2)
    assert [s.session_id for s in tables.read_sessions().sessions] == ["s0"]
    assert [r.session_count for r in tables.read_records().records] == [1]
    assert tables.look([TOM])[TOM].sessions == ()
    clock.step(seconds=3)
    assert tables.read_sessions().sessions == ()
    assert [r.session_count for r in tables.read_records().records] == [0]


def test_what_is_too_long_ago_is_forgotten(tables: FakeTables, clock: FakeClock) -> None:
    for _ in range(100):
        tables.want(OWNER, NOW, clock.now())
        clock.step(minutes=1)

    assert len(tables._history) < 20


def test_a_scan_breaks_off_at_a_page(tables: FakeTables) -> None:
    fill(tables, 5)
    tables.fail_page("read_sessions", 3)
    tables.fail_page("read_sessions", 1)

    third, first, whole = tables.read_sessions(), tables.read_sessions(), tables.read_sessions()

    assert (len(third.sessions), third.sight.quality) == (4, Quality.INCOMPLETE)
    assert third.sight.detail == "page 3 failed: ThrottlingException"
    assert (first.sessions, first.sight.quality) == ((), Quality.UNKNOWN)
    assert (len(whole.sessions), whole.sight.quality) == (5, Quality.COMPLETE)


def test_a_read_that_fails_is_unknown(tables: FakeTables) -> None:
    tables.fail("read_records")

    assert tables.read_records().sight.quality is Quality.UNKNOWN
    assert tables.read_records().sight.quality is Quality.COMPLETE


def test_a_call_that_fails_has_no_effect(tables: FakeTables) -> None:
    tables.fail("open", times=2)

    for _ in range(2):
        with pytest.raises(Throttled):
            fill(tables, 1)

    assert tables.log == []
    assert tables.rows[SESSIONS] == {}


def test_a_call_whose_reply_is_lost_has_its_effect(tables: FakeTables) -> None:
    tables.lose_reply("open")

    with pytest.raises(Unavailable):
        fill(tables, 1)

    assert [w.operation for w in tables.log] == ["open", "open"]
    assert tables.open(Session("s0", TOM, OWNER), OWNER, NOW) is False


def test_the_log_has_what_took_effect_and_nothing_else(tables: FakeTables) -> None:
    tables.put_original_session("o1", TOM, NOW)
    tables.add_raw_count(TOM, 1)
    tables.read_sessions()
    tables.look([TOM])
    tables.clear_pause()
    tables.forget_first_seen("nothing")
    assert tables.release("s9", TOM, NOW) is False
    with pytest.raises(Exception, match="not as it was read"):
        tables.write(ledger.record_arn(TOM, 1, "arn"))
    assert tables.log == []

    tables.write(ledger.repair_count(ContainerRecord(TOM, session_count=1), 0, NOW))
    tables.set_pause("ops", "why", NOW + 1)
    tables.note_first_seen("sessions#x", NOW)

    assert [(w.at, w.operation, w.key) for w in tables.log] == [
        (NOW, "write", TOM),
        (NOW, "set_pause", "pause"),
        (NOW, "note_first_seen", "sessions#x"),
    ]
    assert tables.calls["write"] == 2


def test_the_original_writers_do_not_move_the_fence(tables: FakeTables) -> None:
    tables.put_original_session("o1", TOM, NOW)
    tables.add_raw_count(TOM, 1)
    assert tables.get_record(TOM) == ContainerRecord(TOM, session_count=1)

    tables.delete_original_session("o1")
    tables.add_raw_count(TOM, -1)

    assert tables.row(RECORDS, TOM) == {"containerId": TOM, "sessionCount": 0}
    assert tables.read_sessions().sessions == ()

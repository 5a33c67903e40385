"""Whatever the world is at first: it converges within three rounds of progress, then nothing is written any more."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.aws.rows import RECORDS, to_item
from controller.core.identity import TAG_CLIENT, TAG_CONTAINER, TAG_CONTROLLER, TAG_PROJECT, ContainerIdentity, tags_for
from controller.core.model import Quality, Sight, World
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from controller.core.reads import Hint
from tests.builders import NOW
from tests.simulation import Simulation, container_of

IDENTITIES = [ContainerIdentity("acme", project, user) for project in ("blog", "shop") for user in ("tom", "eva")]

ages = st.sampled_from(["now", "19m", "25m", "13h"])
AGE_MS = {"now": 5_000, "19m": 19 * 60_000, "25m": 25 * 60_000, "13h": 13 * 3_600_000}

sessions = st.lists(st.tuples(st.sampled_from(["ours", "original"]), ages), max_size=3)
tasks = st.lists(st.sampled_from(["ours", "ours older", "original", "foreign", "stopped", "stopping"]), max_size=3)
records = st.sampled_from(
    ["none", "bare", "running first", "running gone", "terminated", "failed", "starting", "draining", "stopping"]
)
drifts = st.sampled_from([0, 0, 0, 1, -1, 5])
containers = st.tuples(sessions, tasks, records, drifts)
worlds = st.lists(containers, min_size=1, max_size=len(IDENTITIES))


def build(description) -> Simulation:
    """Make the described world, with ECS's clock moved on so that every task has passed its youth."""
    sim = Simulation()
    arns = {}
    for identity, (_, kinds, _, _) in zip(IDENTITIES, description, strict=False):
        arns[identity] = [_launch(sim, identity, kind) for kind in kinds]
    sim.clock.step(hours=1)
    for identity, (_, kinds, _, _) in zip(IDENTITIES, description, strict=False):
        for arn, kind in zip(arns[identity], kinds, strict=True):
            if kind == "stopping":
                sim.ecs.stop_by_hand(arn)
    now = sim.clock()
    for identity, (rows, _, record, drift) in zip(IDENTITIES, description, strict=False):
        for number, (kind, age) in enumerate(rows):
            _open(sim, f"{identity.user_id}-{identity.project_id}-{number}", identity, kind, now - AGE_MS[age])
        _record(sim, identity, record, arns[identity], len(rows) + drift, now)
    sim.tables.log.clear()
    sim.ecs.calls.clear()
    return sim


def _launch(sim, identity, kind):
    if kind == "original":
        tags = {TAG_CONTAINER: identity.container_id, TAG_CLIENT: identity.client_id, TAG_PROJECT: identity.project_id}
        return sim.launch(identity, tags=tags, started_by="hermes", generation=0, environment=False)
    if kind == "foreign":
        tags = tags_for(identity, "default") | {TAG_CONTROLLER: "green"}
        return sim.launch(identity, tags=tags, started_by="editctl/green")
    arn = sim.launch(identity, generation={"ours older": 1}.get(kind, 2))
    if kind == "stopped":
        sim.clock.step(seconds=5)
        sim.ecs.stop_by_hand(arn)
    return arn


def _open(sim, session_id, identity, kind, at):
    row = {"sessionId": session_id, "containerId": identity.container_id, "lastActivity": at}
    if kind == "ours":
        row |= {"clientId": identity.client_id, "projectId": identity.project_id, "userId": identity.user_id}
    sim.tables.put_row("sessions", to_item(row))


def _record(sim, identity, kind, arns, count, now):
    if kind == "none":
        return
    row = {"containerId": identity.container_id, "sessionCount": count}
    if kind != "bare":
        row |= {
            "clientId": identity.client_id,
            "projectId": identity.project_id,
            "userId": identity.user_id,
            "generation": 2,
            "lastActivity": now - AGE_MS["25m"],
            "containerStatus": kind.split()[0],
            "launch": {"requestedAt": now - 3_600_000, "keyId": "", "request": "{}"},
        }
    gone = f"arn:aws:ecs:eu-west-1:123456789012:task/webordinary/{'f' * 32}"
    if kind in ("running first", "draining", "stopping"):
        row["taskArn"] = arns[0] if arns else gone
    if kind == "running gone":
        row["taskArn"] = gone
    if kind in ("draining", "stopping"):
        row["drain"] = {"id": 1, "reason": "Idle", "requestedAt": now, "deadline": now + 300_000}
    if kind == "starting":
        row["launch"]["request"] = ""
    sim.tables.put_row(RECORDS, to_item(row))


def is_foreign(task) -> bool:
    return bool(task["startedBy"] == "editctl/green")


@given(worlds)
@settings(max_examples=300)
def test_converges_within_three_rounds_of_progress_then_writes_nothing(description):
    """Time passes where the plan waits for it (backoff, idle time); those waits are no rounds of progress."""
    sim = build(description)
    foreign = {t["taskArn"] for t in sim.live() if is_foreign(t)}
    for _ in range(4):
        assert sim.settle() <= 3
        sim.clock.step(minutes=26)
    sim.settle()
    before = sim.writes()
    for _ in range(3):
        sim.round()
        sim.clock.step(seconds=30)
    assert sim.writes() == before, "at rest a round writes nothing"

    assert foreign <= {t["taskArn"] for t in sim.live()}, "foreign tasks are never touched"
    assert not foreign & set(sim.stopped)
    for identity in IDENTITIES:
        record = sim.tables.get_record(identity.container_id)
        if record is not None:
            assert (record.session_count or 0) == len(sim.sessions(identity.container_id)), "S4 at rest"
        mine = [t for t in sim.live(identity.container_id) if not is_foreign(t)]
        assert len(mine) <= 1
        assert all(record and record.task_arn == t["taskArn"] for t in mine), "whatever runs is named by its record"


@given(worlds, st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_the_order_of_rows_and_tasks_is_irrelevant(description, random):
    sim = build(description)
    world = sim.controller.planner.view().world
    shuffled = replace(
        world, **{name: _shuffled(getattr(world, name), random) for name in ("sessions", "records", "tasks")}
    )
    policy = Policy(stop_budget=2)
    assert compute_plan(world, policy, sim.clock()) == compute_plan(shuffled, policy, sim.clock())


def _shuffled(things, random):
    out = list(things)
    random.shuffle(out)
    return tuple(out)


PARTIAL = [Quality.INCOMPLETE, Quality.UNKNOWN]


@given(worlds, st.sampled_from(["sessions", "records", "tasks"]), st.sampled_from(PARTIAL), st.integers(0, 3))
@settings(max_examples=300)
def test_incomplete_sight_stops_nothing(description, source, quality, seen):
    """Whatever part of the rows an incomplete read happens to have seen."""
    sim = build(description)
    view = sim.controller.planner.view()
    full = view.world
    partly = replace(
        full,
        **{source: getattr(full, source)[:seen], f"{source}_sight": Sight(quality, "page 2 failed")},
        nominated_before=frozenset({t.arn for t in full.tasks} | {i.container_id for i in IDENTITIES}),
    )
    sim.controller.round(view=type(view)(partly, compute_plan(partly, sim.policy, sim.clock())))
    assert not sim.stopped
    assert not [
        w for w in sim.tables.log if _status(sim, w.key) == "stopping" and _was(description, w.key) != "stopping"
    ]


def _status(sim, key):
    row = sim.tables.row(RECORDS, key)
    return row.get("containerStatus") if row else None


def _was(description, key):
    kinds = {i.container_id: d[2] for i, d in zip(IDENTITIES, description, strict=False)}
    return kinds.get(key)


@given(st.lists(st.sampled_from(["sessions", "records", "tasks"]), min_size=1, max_size=12), worlds)
@settings(max_examples=100)
def test_reads_that_fail_in_any_round_cost_time_and_nothing_else(failing, description):
    sim = build(description)
    for source in failing:
        if source == "tasks":
            sim.ecs.faults.fail("ListTasks", "ServerException")
        else:
            sim.tables.fail(f"read_{source}")
        sim.round()
        sim.clock.step(seconds=2)
    for _ in range(3):
        sim.settle(most=20)
        sim.clock.step(minutes=26)


@given(worlds, st.integers(0, 300_000), st.integers(0, 60_000), st.integers(0, 60_000))
@settings(max_examples=150)
def test_stale_sight_breaks_no_promise(description, list_lag, session_lag, record_lag):
    """Lists that are minutes late, rows that are a minute late: the guards hold."""
    sim = build(description)
    sim.ecs.quirks.list_lag_ms = list_lag
    sim.ecs.quirks.describe_lag_ms = min(list_lag, 5_000)
    sim.tables.session_lag, sim.tables.record_lag = session_lag, record_lag
    for _ in range(12):
        sim.round()
        sim.clock.step(seconds=11)
    sim.ecs.quirks.list_lag_ms = sim.ecs.quirks.describe_lag_ms = 0
    sim.tables.session_lag = sim.tables.record_lag = 0
    sim.clock.step(minutes=6)
    for _ in range(3):
        sim.settle(most=20)
        sim.clock.step(minutes=26)


@given(st.integers(1, 60), st.integers(1, 15), st.floats(0, 0.5), st.integers(0, 20))
@settings(max_examples=100)
def test_budgets_hold_in_every_window(idle, budget, share, orphans):
    policy = Policy(stop_budget=budget, stop_budget_share=share)
    sim = Simulation(policy=policy)
    for n in range(idle):
        identity = ContainerIdentity("acme", f"site{n}", "tom")
        arn = sim.launch(identity)
        sim.tables.put_row(RECORDS, to_item({
            "containerId": identity.container_id, "clientId": "acme", "projectId": f"site{n}", "userId": "tom",
            "containerStatus": "running", "taskArn": arn, "generation": 1, "sessionCount": 0, "lastActivity": NOW,
            "emptySince": NOW,
        }))  # fmt: skip
    for n in range(orphans):
        sim.launch(ContainerIdentity("acme", f"lost{n}", "tom"))
    sim.clock.step(minutes=30)
    allowed = policy.stops_allowed(idle + orphans)
    stops = []
    for _ in range(40):
        before = len(sim.stopped)
        sim.round()
        stops += [sim.clock()] * (len(sim.stopped) - before)
        sim.clock.step(seconds=10)
    for at in stops:
        window = [s for s in stops if at <= s < at + policy.stop_window]
        assert len(window) <= allowed
    assert stops, "the budget delays stops, it does not forbid them"


def test_an_empty_world_is_at_rest():
    assert compute_plan(World(), Policy(), NOW).actions == ()
    sim = Simulation()
    assert sim.settle() == 0
    assert container_of({}) == ""


@given(worlds, st.sets(st.integers(0, len(IDENTITIES) - 1)), st.booleans())
@example([([], ["stopped"], "starting", 0)], {0}, False)
@settings(max_examples=200)
def test_a_look_at_a_few_decides_of_them_what_a_look_at_everything_does(description, chosen, nominated):
    sim = build(description)
    planner = sim.new_controller().planner
    whole = planner.view()
    before = whole.plan.nominated if nominated else frozenset()
    whole = planner.view(before)
    some = {IDENTITIES[n].container_id for n in chosen}
    few = planner.view_of({i: Hint(i) for i in some}, before)

    def decided(view):
        return sorted(
            (a.container_id, a.kind, a.step, a.reason, a.task.arn if a.task else "", a.until or 0)
            for a in view.plan.actions
            if a.container_id in some
        )

    assert decided(few) == decided(whole)
    assert {a.container_id for a in few.plan.actions} <= some

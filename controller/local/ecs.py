"""A strict ECS in memory: it refuses what ECS refuses, forgets what ECS forgets, and runs on the caller's clock.

It is the oracle of tests and the engine of the local endpoint, so where the documentation leaves a choice it takes the
one that is harder on the caller. Sources: the AmazonECS APIReference and Developer Guide pages named at each rule.
"""

from __future__ import annotations

import copy
import hashlib
import heapq
import itertools
import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from controller.local.addresses import AddressPool
from controller.local.clusters import Cluster, Clusters
from controller.local.definitions import Definitions
from controller.local.describe import LaunchedTask, describe, launched
from controller.local.errors import EcsError, invalid_parameter
from controller.local.events import task_state_change
from controller.local.faults import Faults, Quirks, RefusedPlacement
from controller.local.launch import LAUNCH_TYPES, prepare
from controller.local.lifecycle import Lifecycle, Status, Timings
from controller.local.limits import (
    MAX_PAGE,
    check_run_task,
    check_shape,
    included,
    page_size,
    strings,
    tag_keys,
    tags_of,
    with_tags,
)
from controller.local.paging import next_token, page, position
from controller.local.tasks import Launch, LocalTask, Stop

__all__ = ["Call", "EcsError", "StrictEcs", "TaskObserver", "Timings"]

logger = logging.getLogger(__name__)

# APIReference DescribeTasks: stopped tasks appear for at least one hour.
STOPPED_TASK_RETENTION_MS = 3_600_000
KEPT_CALLS = 100_000
SIGKILLED = 137

_TASK_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f-]{36}")
# APIReference ListTasks: when startedBy is a filter, it must be the only one.
_FILTERS_BESIDE_STARTED_BY = (
    "containerInstance",
    "daemonName",
    "desiredStatus",
    "family",
    "launchType",
    "serviceName",
)
_ANNOUNCED = (Status.ACTIVATING, Status.RUNNING, Status.STOPPING, Status.STOPPED)
_DESIRED = ("RUNNING", "PENDING", "STOPPED")


class TaskObserver(Protocol):
    """Who runs the containers. Calls come in the order of events, one at a time, and outside of the ECS lock."""

    def on_start(self, task: LaunchedTask) -> None:
        """Start the task's containers; report an end by `exit_task`, a failed start by `fail_to_start`."""

    def on_stop(self, task: LaunchedTask) -> None:
        """Send the stop signal; `task.stop_timeout` seconds later SIGKILL is due."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it came in: when (epoch milliseconds), which operation, and the error code, empty if it worked."""

    at: int
    operation: str
    error: str


class StrictEcs:
    """The ECS API of one account in one region; every method may be called from any thread.

    `clock` gives epoch milliseconds. `ids` gives 32 hexadecimal digits for each task. `observer` is told when
    containers are to start and stop; without one they start and stop by themselves. `on_event` gets an EventBridge
    event of each task that runs or has stopped, once `settle` or a call finds it so. `admit` is asked before each call
    and may raise `ThrottlingException`: the API's token buckets belong there.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        timings: Timings | None = None,
        ids: Callable[[], str] | None = None,
        observer: TaskObserver | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        admit: Callable[[str, int], None] | None = None,
        account: str = "123456789012",
        region: str = "us-east-1",
        network: str = "127.1.0.0/16",
    ) -> None:
        self.timings = timings or Timings()
        self.quirks = Quirks()
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.log: deque[Call] = deque(maxlen=KEPT_CALLS)
        self._clock = clock
        self._ids = ids or _numbered_ids().__next__
        self._observer = observer
        self._on_event = on_event
        self._admit = admit or _no_quota
        self._arn_prefix = f"arn:aws:ecs:{region}:{account}"
        self._region = region
        self._clusters = Clusters(self._arn_prefix)
        self._definitions = Definitions(self._arn_prefix)
        self._addresses = AddressPool(network)
        self._tasks: dict[str, tuple[Cluster, LocalTask]] = {}
        self._numbers = itertools.count(1)
        self._due: list[tuple[int, int, str]] = []
        self._news: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()
        self._telling = threading.RLock()
        self._operations: Mapping[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
            "CreateCluster": self._create_cluster,
            "DeleteCluster": self._delete_cluster,
            "DeregisterTaskDefinition": self._deregister_task_definition,
            "DescribeClusters": self._describe_clusters,
            "DescribeTaskDefinition": self._describe_task_definition,
            "DescribeTasks": self._describe_tasks,
            "ListClusters": self._list_clusters,
            "ListTagsForResource": self._list_tags_for_resource,
            "ListTaskDefinitions": self._list_task_definitions,
            "ListTasks": self._list_tasks,
            "RegisterTaskDefinition": self._register_task_definition,
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "TagResource": self._tag_resource,
            "UntagResource": self._untag_resource,
        }

    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of an operation, in the API's own JSON shape, or raise `EcsError`."""
        with self._now() as now:
            return self._logged(operation, copy.deepcopy(dict(params)), now)

    def settle(self) -> None:
        """Let happen what is due by now; every call does this, so only who waits for an observer's news needs it."""
        with self._now():
            pass

    def next_change(self) -> int | None:
        """Return the instant (epoch milliseconds) before which `settle` has nothing to do, None if it never has."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def states(self) -> Counter[Status]:
        """Return how many tasks are in which state, whatever the API shows of them."""
        with self._now() as now:
            return Counter(task.lifecycle.status(now) for _, task in self._tasks.values())

    def snapshot(self) -> list[dict[str, Any]]:
        """Return all tasks as they are, with tags, without lag, and those that the API does not show yet."""
        with self._now() as now:
            return [describe(task, now, with_tags=True) for _, task in self._tasks.values()]

    def exit_task(self, task: str, exit_code: int, reason: str = "Essential container in task exited") -> bool:
        """Let a task's essential container end; False if it had ended before. `task` is an ARN or id."""
        with self._now() as now:
            found = self._known(task)
            ran = found.lifecycle.reached(Status.ACTIVATING, now) is not None
            code = "EssentialContainerExited" if ran else "TaskFailedToStart"
            return self._end(found, now, Stop(now, code, reason, clears_tags=False), exit_code)

    def fail_to_start(self, task: str, reason: str) -> bool:
        """Let a task's container fail before it ran, as `CannotPullContainerError: …`; False if it had ended before."""
        with self._now() as now:
            found = self._known(task)
            if not self._end(found, now, Stop(now, "TaskFailedToStart", reason, clears_tags=False), None):
                return False
            found.container_reason = reason
            return True

    def stop_by_hand(self, task: str, reason: str = "Task stopped by user", code: str = "UserInitiated") -> None:
        """Stop a task as somebody else would: a person, or with another stop code Spot or a retirement of the host."""
        with self._now() as now:
            self._stop(self._known(task), now, Stop(now, code, reason, clears_tags=code == "UserInitiated"))

    def repeat_event(self, task: str) -> None:
        """Announce once more how a task is: EventBridge delivers an event at least once."""
        with self._now() as now:
            self._announce(self._known(task), now)

    def exit_on_stop(self, task: str, exit_code: int) -> None:
        """Set the exit code that a task's containers give after the stop signal, if nobody reports another one."""
        with self._now():
            self._known(task).stop_exit_code = exit_code

    @contextmanager
    def _now(self) -> Iterator[int]:
        """Hold the lock over one instant, with all that was due by then done; the observer hears of it afterwards."""
        try:
            with self._lock:
                now = self._clock()
                self._settle(now)
                yield now
                self._settle(now)
        finally:
            self._tell()

    # From here on the lock is held.

    def _logged(self, operation: str, params: dict[str, Any], now: int) -> dict[str, Any]:
        error = ""
        try:
            return self._answer(operation, params, now)
        except EcsError as refused:
            error = refused.code
            raise
        finally:
            self.calls[operation] += 1
            self.log.append(Call(now, operation, error))

    def _answer(self, operation: str, params: dict[str, Any], now: int) -> dict[str, Any]:
        self._admit(operation, now)
        self.faults.before(operation)
        check_shape(operation, params)
        answer = self._operations[operation](params, now)
        self.faults.after(operation)
        return answer

    # Clusters and task definitions

    def _create_cluster(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        return {"cluster": self._clusters.create(params).describe(now, with_tags=True, with_settings=True)}

    def _delete_cluster(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        cluster = self._clusters.delete(params["cluster"], now)
        return {"cluster": cluster.describe(now, with_tags=False, with_settings=False)}

    def _describe_clusters(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        include = included(params, "ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS")
        return self._clusters.describe(strings(params, "clusters"), include, now)

    def _list_clusters(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        arns, token = page([cluster.arn for cluster in self._clusters], params)
        return _paged("clusterArns", arns, token)

    def _register_task_definition(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        definition = self._definitions.register(params, now)
        return {"taskDefinition": copy.deepcopy(definition.described), "tags": _tag_list(definition.tags)}

    def _describe_task_definition(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        definition = self._definitions.described(params["taskDefinition"])
        tags = _tag_list(definition.tags) if included(params, "TAGS") else []
        return {"taskDefinition": copy.deepcopy(definition.described), "tags": tags}

    def _deregister_task_definition(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        return {"taskDefinition": copy.deepcopy(self._definitions.deregister(params["taskDefinition"], now).described)}

    def _list_task_definitions(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        status, family = params.get("status", "ACTIVE"), params.get("familyPrefix")
        arns = [
            definition.arn
            for definition in self._definitions
            if definition.described["status"] == status and family in (None, definition.family)
        ]
        if params.get("sort", "ASC") == "DESC":
            arns.reverse()
        return _paged("taskDefinitionArns", *page(arns, params))

    # Tasks

    def _run_task(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        check_run_task(params)
        cluster = self._clusters.find(params.get("cluster"))
        replay = cluster.tokens.replay(params, now)
        if replay is not None:
            return replay
        launch = prepare(params, self._definitions.runnable(params["taskDefinition"]), cluster)
        tasks: list[LocalTask] = []
        failures: list[dict[str, Any]] = []
        for _ in range(params.get("count", 1)):
            refused = self.faults.next_placement()
            if refused is None:
                refused = self._place(cluster, launch, now, tasks)
            elif refused.appears_after_ms is not None:
                self._place(cluster, launch, now, [], hidden_for=refused.appears_after_ms)
            if refused is not None:
                failures.append(_failure(refused))
        cluster.tokens.remember(params, now, tasks, failures)
        return {"tasks": [self._shown(task, now, with_tags=True) for task in tasks], "failures": failures}

    def _list_tasks(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        cluster = self._clusters.find(params.get("cluster"))
        _check_list_filters(params)
        at, start, size = now - self.quirks.list_lag_ms, position(params), page_size(params)
        matching = (
            task
            for task in cluster.tasks.values()
            if task.seq >= start and task.visible(at) and _matches(task, params, at)
        )
        tasks = list(itertools.islice(matching, size + 1))
        arns = [task.arn for task in tasks[:size]]
        return _paged("taskArns", arns, self._following(params, tasks, size))

    def _following(self, params: Mapping[str, Any], tasks: list[LocalTask], size: int) -> str | None:
        if len(tasks) <= size:
            return None
        # A page of one cannot overlap: the list would never end.
        first = tasks[size - 1] if self.quirks.overlapping_pages and size > 1 else tasks[size]
        return next_token(params, first.seq)

    def _describe_tasks(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        cluster = self._clusters.find(params.get("cluster"))
        references = strings(params, "tasks")
        if not references:
            raise invalid_parameter("Tasks cannot be empty.")
        if len(references) > MAX_PAGE:
            raise invalid_parameter(f"Tasks cannot have more than {MAX_PAGE} elements.")
        with_tags, at = bool(included(params, "TAGS")), now - self.quirks.describe_lag_ms
        tasks, failures = [], []
        for arn in dict.fromkeys(self._task_arn(cluster, reference) for reference in references):
            task = cluster.tasks.get(arn)
            if task is None or not task.visible(at):
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                tasks.append(self._shown(task, at, with_tags=with_tags))
        return {"tasks": tasks, "failures": failures}

    def _stop_task(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        cluster = self._clusters.find(params.get("cluster"))
        task = cluster.tasks.get(self._task_arn(cluster, params["task"]))
        if task is None or not task.visible(now):
            raise invalid_parameter("The referenced task was not found.")
        reason = params.get("reason", "Task stopped by user")
        self._stop(task, now, Stop(now, "UserInitiated", reason, clears_tags=True))
        return {"task": self._shown(task, now, with_tags=False)}

    # Tags

    def _tag_resource(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        tags, write = self._taggable(params["resourceArn"], now, to_write=True)
        write(with_tags(tags, tags_of(params["tags"])))
        return {}

    def _untag_resource(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        tags, write = self._taggable(params["resourceArn"], now, to_write=True)
        gone = tag_keys(params["tagKeys"])
        write({key: value for key, value in tags.items() if key not in gone})
        return {}

    def _list_tags_for_resource(self, params: Mapping[str, Any], now: int) -> dict[str, Any]:
        tags, _ = self._taggable(params["resourceArn"], now, to_write=False)
        return {"tags": _tag_list(tags)}

    def _taggable(
        self, arn: str, now: int, *, to_write: bool
    ) -> tuple[Mapping[str, str], Callable[[dict[str, str]], None]]:
        kind = arn.removeprefix(self._arn_prefix + ":").partition("/")[0]
        if kind == "task":
            return self._taggable_task(arn, now, to_write=to_write)
        if kind == "cluster":
            cluster = self._clusters.find(arn)
            return cluster.tags, lambda tags: setattr(cluster, "tags", tags)
        if kind == "task-definition":
            definition = self._definitions.described(arn)
            return definition.tags, lambda tags: setattr(definition, "tags", tags)
        raise invalid_parameter(f"Invalid resource ARN: {arn}")

    def _taggable_task(
        self, arn: str, now: int, *, to_write: bool
    ) -> tuple[Mapping[str, str], Callable[[dict[str, str]], None]]:
        cluster = self._clusters.find(arn.rpartition("/")[0].rpartition("/")[2])
        task = cluster.tasks.get(arn)
        if task is None or not task.visible(now):
            raise invalid_parameter("The specified task is not found.")
        if to_write and task.stopping(now):
            raise invalid_parameter("The specified task is stopped. Specify a running task and try again.")
        return task.tags(now), lambda tags: task.tag_history.append((now, tags))

    # What happens to tasks

    def _place(
        self, cluster: Cluster, launch: Launch, now: int, placed: list[LocalTask], *, hidden_for: int = 0
    ) -> RefusedPlacement | None:
        """Add a new task to `placed`, or return why there is no room for it."""
        address = self._addresses.take() if launch.definition.network_mode == "awsvpc" else None
        if address is None and launch.definition.network_mode == "awsvpc":
            return RefusedPlacement("RESOURCE:ENI", "", None)
        task_id, seq = self._ids(), next(self._numbers)
        task = LocalTask(
            seq=seq,
            id=task_id,
            arn=f"{self._arn_prefix}:task/{cluster.name}/{task_id}",
            cluster_arn=cluster.arn,
            region=self._region,
            launch=launch,
            address=address,
            created_at=now,
            visible_at=now + hidden_for,
            lifecycle=Lifecycle(now, self.timings),
            # Whoever ignores the stop signal is killed; without a process there is nobody to ignore it.
            stop_exit_code=0 if self._observer is None else SIGKILLED,
            tag_history=[(now, dict(launch.tags))],
        )
        cluster.tasks[task.arn] = task
        self._tasks[task.id] = (cluster, task)
        self._note_due(task)
        placed.append(task)
        return None

    def _stop(self, task: LocalTask, now: int, stop: Stop) -> None:
        if task.stop is None:
            task.stop = stop
            task.tags_until_stopped = self.quirks.tags_until_stopped
            task.lifecycle.stop(now, None if self._observer is None else task.launch.definition.stop_timeout)
            self._note_due(task)

    def _end(self, task: LocalTask, now: int, stop: Stop, exit_code: int | None) -> bool:
        if not task.lifecycle.exit(now):
            return False
        task.exit_code = exit_code
        task.stop = task.stop or stop
        self._note_due(task)
        return True

    def _note_due(self, task: LocalTask) -> None:
        for status in _ANNOUNCED:
            entered = task.lifecycle.entered(status)
            if entered is not None and status not in task.announced:
                heapq.heappush(self._due, (entered, task.seq, task.id))
        stopped = task.lifecycle.entered(Status.STOPPED)
        if stopped is not None:
            heapq.heappush(self._due, (stopped + STOPPED_TASK_RETENTION_MS, task.seq, task.id))

    def _settle(self, now: int) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, task_id = heapq.heappop(self._due)
            if task_id in self._tasks:
                self._settle_task(*self._tasks[task_id], now)

    def _settle_task(self, cluster: Cluster, task: LocalTask, now: int) -> None:
        """Do once what each state brings with it; the schedule may have changed since the deadline was noted."""
        for status in _ANNOUNCED:
            if status not in task.announced and task.lifecycle.reached(status, now) is not None:
                task.announced.add(status)
                self._entered(task, status)
        stopped = task.lifecycle.reached(Status.STOPPED, now)
        if stopped is not None and stopped + STOPPED_TASK_RETENTION_MS <= now:
            del self._tasks[task.id]
            del cluster.tasks[task.arn]

    def _entered(self, task: LocalTask, status: Status) -> None:
        if status is Status.STOPPED and task.address is not None:
            self._addresses.give_back(task.address)
        if status in (Status.RUNNING, Status.STOPPED):
            self._announce(task, task.lifecycle.entered(status) or 0)
        if self._observer is None or status in (Status.RUNNING, Status.STOPPED):
            return
        tell = self._tell_start if status is Status.ACTIVATING else self._tell_stop
        news = launched(task)
        self._news.append(lambda: tell(news))

    def _announce(self, task: LocalTask, at: int) -> None:
        if self._on_event is not None:
            event = task_state_change(self._shown(task, at, with_tags=False), self._region, at)
            self._news.append(partial(self._tell_event, event))

    def _known(self, reference: str) -> LocalTask:
        task_id = reference.rpartition("/")[2]
        if task_id not in self._tasks:
            raise LookupError(f"there is no task {reference}")
        return self._tasks[task_id][1]

    def _task_arn(self, cluster: Cluster, reference: str) -> str:
        if reference.startswith("arn:"):
            return reference
        if not _TASK_ID.fullmatch(reference):
            raise invalid_parameter("taskId length should be one of [32,36]")
        return f"{self._arn_prefix}:task/{cluster.name}/{reference}"

    def _shown(self, task: LocalTask, at: int, *, with_tags: bool) -> dict[str, Any]:
        return describe(task, at, with_tags=with_tags, bare_when_fresh=self.quirks.bare_when_fresh)

    # Here the lock is not held.

    def _tell(self) -> None:
        """Give the observer its news in order; if another thread is at it, that one gives these too."""
        while self._news and self._telling.acquire(blocking=False):
            try:
                while self._news:
                    self._news.popleft()()
            finally:
                self._telling.release()

    def _tell_event(self, event: dict[str, Any]) -> None:
        assert self._on_event is not None
        try:
            self._on_event(event)
        except Exception:
            logger.exception("cannot announce %s", event["id"])

    def _tell_start(self, task: LaunchedTask) -> None:
        assert self._observer is not None
        try:
            self._observer.on_start(task)
        except Exception as error:
            logger.exception("cannot start the containers of %s", task.arn)
            self.fail_to_start(task.arn, f"CannotStartContainerError: {error}")

    def _tell_stop(self, task: LaunchedTask) -> None:
        assert self._observer is not None
        try:
            self._observer.on_stop(task)
        except Exception:
            logger.exception("cannot signal the containers of %s", task.arn)


def _matches(task: LocalTask, params: Mapping[str, Any], at: int) -> bool:
    # APIReference ListTasks: the default is RUNNING; PENDING is a value that no task has.
    if params.get("desiredStatus", "RUNNING") != ("STOPPED" if task.stopping(at) else "RUNNING"):
        return False
    shown = {
        "startedBy": task.launch.started_by,
        "family": task.launch.definition.family,
        "launchType": task.launch.launch_type,
    }
    return all(params.get(name, value) == value for name, value in shown.items())


def _check_list_filters(params: Mapping[str, Any]) -> None:
    if "startedBy" in params and any(name in params for name in _FILTERS_BESIDE_STARTED_BY):
        raise invalid_parameter("cannot specify startedBy with other arguments")
    if params.get("desiredStatus", "RUNNING") not in _DESIRED:
        raise invalid_parameter(f"desiredStatus must be one of {', '.join(_DESIRED)}.")
    if params.get("launchType", "FARGATE") not in LAUNCH_TYPES:
        raise invalid_parameter(f"launchType must be one of {', '.join(sorted(LAUNCH_TYPES))}.")
    # There are only tasks of RunTask here.
    if "serviceName" in params:
        raise EcsError("ServiceNotFoundException", "Service not found.")
    if "containerInstance" in params:
        raise invalid_parameter(f"Referenced container instance {params['containerInstance']} not found.")
    if "daemonName" in params:
        raise invalid_parameter(f"Referenced daemon {params['daemonName']} not found.")


def _failure(refused: RefusedPlacement) -> dict[str, Any]:
    failure = {"reason": refused.reason}
    return {**failure, "detail": refused.detail} if refused.detail else failure


def _paged(name: str, items: list[str], token: str | None) -> dict[str, Any]:
    return {name: items} if token is None else {name: items, "nextToken": token}


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _no_quota(operation: str, now: int) -> None:
    """Admit every call."""


def _numbered_ids() -> Iterator[str]:
    """Yield task ids, the same ones in every run."""
    return (hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in itertools.count(1))

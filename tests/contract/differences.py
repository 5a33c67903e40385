"""Where an engine differs from what AWS promises: one line a rule. Each is tried, and has to differ still.

A rule that an engine keeps has no line here, so a line that is no longer true fails, and so does a new difference.
The local endpoint's ECS has none: it is what everything else is tried on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError

# What a rule that is not kept looks like. Anything else is a mistake of the test, and no difference.
BROKEN = (AssertionError, ClientError)

# (engine, rule, or rule[case] where only that case differs): what the engine does instead.
DIFFERENCES: Mapping[tuple[str, str], str] = {
    # ECS
    ("ministack", "a_repeated_token_gives_the_same_task"): "ignores clientToken: every call starts a task",
    ("ministack", "another_request_with_the_token_is_a_conflict"): "ignores clientToken: starts a second task",
    ("ministack", "a_repeat_for_a_stopped_task_shows_it_dead"): "ignores clientToken: starts a second task",
    ("ministack", "a_token_is_free_an_hour_after_its_task"): "ignores clientToken: it is free at once",
    ("ministack", "a_token_lives_a_day_at_most"): "ignores clientToken: it never lives",
    ("ministack", "a_token_has_64_printable_characters"): "takes any text for a token",
    ("ministack", "16_at_once_with_one_token_get_one_task"): "ignores clientToken: sixteen tasks",
    ("ministack", "one_call_starts_1_to_10_tasks"): "takes any count",
    ("ministack", "started_by_has_128_plain_characters"): "takes any text for startedBy",
    ("ministack", "overrides_have_8192_characters"): "takes overrides of any length",
    ("ministack", "an_override_names_a_container_of_the_definition"): "takes an override of a container nobody has",
    ("ministack", "tags_have_limits"): "takes any tags",
    ("ministack", "tags_have_letters_digits_spaces_and_some_signs"): "takes any characters in tags",
    ("ministack", "an_unknown_cluster_is_refused"): "makes the cluster on RunTask, and else finds nothing in it",
    ("ministack", "an_inactive_definition_runs_nothing"): "runs a deregistered revision for ever, not for 10 minutes",
    ("ministack", "a_bare_family_is_its_newest_active_revision"): "takes the newest revision, ACTIVE or not",
    ("ministack", "awsvpc_needs_a_network"): "runs a task with awsvpc without a network",
    ("ministack", "a_network_has_16_subnets"): "takes any number of subnets, existing or not",
    ("ministack", "a_size_that_fargate_lacks_is_refused"): "takes any cpu and memory",
    ("ministack", "ephemeral_storage_has_21_gib_at_least"): "takes any size",
    ("ministack", "tags_of_a_service_cannot_be_propagated"): "ignores propagateTags",
    ("ministack", "tags_of_the_definition_come_along_when_asked_for"): "ignores propagateTags",
    ("ministack", "the_group_of_a_task_is_its_family"): "leaves the group empty",
    ("ministack", "a_task_comes_up_in_steps"): "is RUNNING at once, where there is no Docker",
    ("ministack", "a_task_ends_in_steps"): "is STOPPED at once",
    ("ministack", "stop_task_deletes_the_tags"): "keeps the tags of a stopped task",
    ("ministack", "a_running_task_shows_its_address"): "shows no interface and no address, where there is no Docker",
    ("ministack", "started_by_is_the_only_filter"): "takes startedBy beside other filters",
    ("ministack", "tasks_are_found_by_launch_type"): "ignores launchType",
    ("ministack", "100_tasks_can_be_described_and_not_101"): "describes any number of tasks",
    ("ministack", "no_tasks_cannot_be_described"): "answers with no tasks",
    ("ministack", "tags_are_shown_only_when_asked_for"): "always shows the tags",
    ("ministack", "50_tags_are_the_limit_over_all_calls"): "takes any number of tags",
    ("ministack", "a_deregistered_revision_stays_to_be_seen"): "finds a family that has no ACTIVE revision",
    ("ministack", "an_unknown_definition_cannot_be_described"): "says it in other words, with the name in them",
    ("ministack", "a_definition_is_deregistered_by_its_revision"): "deregisters the newest one",
    ("ministack", "definitions_are_found_by_the_whole_name_of_their_family"): "lists all families that begin so",
    ("ministack", "fargate_needs_awsvpc"): "takes any network mode",
    ("ministack", "a_family_has_a_plain_name"): "takes any name",
    ("ministack", "a_cluster_with_tasks_cannot_be_deleted"): "deletes it with its tasks",
    ("ministack", "a_deleted_cluster_is_inactive_and_takes_nothing"): "makes the cluster again on RunTask",
    ("moto", "a_repeated_token_gives_the_same_task"): "ignores clientToken: every call starts a task",
    ("moto", "another_request_with_the_token_is_a_conflict"): "ignores clientToken: starts a second task",
    ("moto", "a_repeat_for_a_stopped_task_shows_it_dead"): "ignores clientToken: starts a second task",
    ("moto", "a_token_is_free_an_hour_after_its_task"): "ignores clientToken: it is free at once",
    ("moto", "a_token_lives_a_day_at_most"): "ignores clientToken: it never lives",
    ("moto", "a_token_has_64_printable_characters"): "takes any text for a token",
    ("moto", "16_at_once_with_one_token_get_one_task"): "ignores clientToken: sixteen tasks",
    ("moto", "one_call_starts_1_to_10_tasks"): "takes any count",
    ("moto", "started_by_has_128_plain_characters"): "takes any text for startedBy",
    ("moto", "overrides_have_8192_characters"): "takes overrides of any length",
    ("moto", "an_override_names_a_container_of_the_definition"): "takes an override of a container nobody has",
    ("moto", "tags_have_limits"): "takes any tags",
    ("moto", "tags_have_letters_digits_spaces_and_some_signs"): "takes any characters in tags",
    ("moto", "an_inactive_definition_runs_nothing"): "runs a deregistered revision for ever, not for 10 minutes",
    ("moto", "a_bare_family_is_its_newest_active_revision"): "takes the newest revision, ACTIVE or not",
    ("moto", "a_network_has_16_subnets"): "takes any number of subnets",
    ("moto", "security_groups_can_be_left_out"): "fails with HTTP 500",
    ("moto", "a_size_that_fargate_lacks_is_refused"): "takes any cpu and memory",
    ("moto", "ephemeral_storage_has_21_gib_at_least"): "takes any size",
    ("moto", "tags_of_a_service_cannot_be_propagated"): "ignores propagateTags",
    ("moto", "tags_of_the_definition_come_along_when_asked_for"): "ignores propagateTags",
    ("moto", "a_container_needs_no_memory_of_its_own"): "fails with HTTP 500",
    ("moto", "a_task_comes_up_in_steps"): "is RUNNING at once, and one step nearer to its end with every look",
    ("moto", "looking_at_a_task_does_not_change_it"): "is STOPPED after four looks",
    ("moto", "a_task_ends_in_steps"): "is STOPPED at once",
    ("moto", "a_stop_is_shown_at_once_with_its_reason"): "shows no stop code",
    ("moto", "stop_task_deletes_the_tags"): "keeps the tags of a stopped task",
    ("moto", "an_unknown_task_cannot_be_stopped"): "fails with HTTP 500",
    ("moto", "a_container_shows_its_exit_code_when_it_has_ended"): "shows exit code 0 from the start",
    ("moto", "the_version_grows_with_every_change"): "shows no version",
    ("moto", "a_task_shows_when_it_was_created_started_and_stopped"): "shows none of these times",
    ("moto", "the_default_list_is_what_is_desired_to_run"): "lists what is stopped, too",
    ("moto", "started_by_is_the_only_filter"): "takes startedBy beside other filters",
    ("moto", "started_by_finds_the_live_tasks_of_a_starter"): "lists what is stopped, too",
    ("moto", "tasks_are_found_by_launch_type"): "ignores launchType",
    ("moto", "clusters_whose_names_begin_alike_are_apart"): "lists the tasks of both",
    ("moto", "a_page_has_100_tasks"): "lists everything in one page",
    ("moto", "a_page_can_be_smaller"): "ignores maxResults",
    ("moto", "missing_tasks_are_failures_beside_the_others"): "leaves out what is missing, without a failure",
    ("moto", "100_tasks_can_be_described_and_not_101"): "describes any number of tasks",
    ("moto", "50_tags_are_the_limit_over_all_calls"): "takes any number of tags",
    ("moto", "a_task_that_is_not_there_cannot_be_tagged"): "fails with HTTP 500",
    ("moto", "a_deregistered_revision_stays_to_be_seen"): "finds a family that has no ACTIVE revision",
    ("moto", "fargate_needs_awsvpc"): "takes any network mode",
    ("moto", "a_family_has_a_plain_name"): "takes any name",
    ("moto", "a_cluster_with_tasks_cannot_be_deleted"): "deletes it with its tasks",
    ("moto", "a_deleted_cluster_is_inactive_and_takes_nothing"): "runs tasks in a deleted cluster",
    # DynamoDB; the local endpoint's is moto's, one request at a time
    ("local", "what_a_condition_means[n < :text]"): "fails with HTTP 500 where types differ",
    ("local", "what_a_condition_means[t < :three]"): "fails with HTTP 500 where types differ",
    ("local", "in_takes_100_operands"): "takes any number of operands",
    ("local", "a_name_or_value_that_is_not_used_is_refused[no names]"): "takes an empty map of names",
    ("local", "numbers_are_exact_to_38_digits"): "takes numbers of any length",
    ("local", "a_repeated_transaction_counts_once"): "ignores ClientRequestToken",
    ("local", "another_transaction_with_the_token_is_refused"): "ignores ClientRequestToken",
    ("local", "the_key_of_an_index_has_its_type"): "takes the item, and shows it in the index",
    ("local", "a_table_that_is_not_there_is_said_to_be[transact_write_items]"): "says it as a reason of a cancellation",
    ("local", "a_table_that_is_made_again_has_another_id"): "shows no TableId",
    ("ministack", "in_takes_100_operands"): "takes any number of operands",
    ("ministack", "an_update_that_cannot_be_is_refused[set and removed]"): "removes the attribute",
    ("ministack", "an_update_that_cannot_be_is_refused[twice]"): "takes the last value",
    # Our tables on it
    ("ministack", "a_write_that_cannot_be_is_an_error[set and removed]"): "removes the attribute",
}


@contextmanager
def still_differs(engine: str, rule: str) -> Iterator[None]:
    """Expect that a rule is broken, as its line in DIFFERENCES says."""
    try:
        yield
    except BROKEN:
        return
    except pytest.fail.Exception as failed:
        # What pytest.raises says. A timeout is one of these, too, and says nothing of the rule.
        if str(failed).startswith("DID NOT RAISE"):
            return
        raise
    pytest.fail(
        f"{engine} keeps the rule {rule} now: remove its line from tests/contract/differences.py\n"
        f"The line says: {DIFFERENCES[engine, rule]}",
        pytrace=False,
    )


def line_of(engine: str, rule: str, case: str) -> tuple[str, str] | None:
    """Return the key of the line that speaks of a rule, or of this case of it; None when it has to be kept."""
    known = ((engine, name) for name in (f"{rule}[{case}]", rule))
    return next((line for line in known if line in DIFFERENCES), None)

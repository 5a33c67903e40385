"""What is due: hints now, deadlines in their time, nothing lost to a round that is under way or fails."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.core.reads import Hint
from controller.reconcile.due import Due


def test_a_hint_is_due_at_once_and_wakes_whoever_waits():
    due, woken = Due(), []
    due.on_hint(lambda: woken.append(due.next_at()))
    due.hint(Hint("a-b-c", session_ids=frozenset({"s1"})))
    due.hint(Hint("a-b-c", task_arns=frozenset({"arn"}), receipts=frozenset({"r"})))
    assert woken == [0, 0]
    assert due.take(5) == {"a-b-c": Hint("a-b-c", frozenset({"s1"}), frozenset({"arn"}), receipts=frozenset({"r"}))}
    assert due.take(5) == {}
    assert due.next_at() is None


def test_of_two_deadlines_the_earlier_one_stays():
    due = Due()
    for at in (300, 100, 200):
        due.settle((), [("a-b-c", at)])
    assert (due.next_at(), due.overdue(100)) == (100, 1)
    assert due.take(99) == {}
    assert due.take(100) == {"a-b-c": Hint("a-b-c")}
    assert due.take(1_000) == {}


def test_a_look_at_everything_sets_all_deadlines_anew_and_keeps_the_hints_that_came_meanwhile():
    due = Due()
    due.settle((), [("old", 100)])
    due.hint(Hint("before"))
    assert set(due.take_hints()) == {"before"}
    due.hint(Hint("meanwhile", session_ids=frozenset({"s9"})))
    due.replace([("new", 200), ("meanwhile", 500)])
    assert due.take(0) == {"meanwhile": Hint("meanwhile", session_ids=frozenset({"s9"}))}
    assert set(due.take(1_000)) == {"new"}


def test_a_look_at_some_leaves_the_others_alone():
    due = Due()
    for container_id, at in (("a", 100), ("b", 200), ("c", 300)):
        due.settle((), [(container_id, at)])
    due.hint(Hint("b"))
    due.settle({"a", "b"}, [("a", 400), ("b", 600)])
    assert [(sorted(due.take(at))) for at in (0, 300, 400, 600)] == [["b"], ["c"], ["a"], []]


def test_what_is_given_back_comes_again_with_all_it_named():
    due = Due()
    hint = Hint("a", session_ids=frozenset({"s1"}), receipts=frozenset({"r"}))
    due.hint(hint)
    taken = due.take(0)
    due.give_back(taken.values(), 50)
    due.hint(Hint("a", session_ids=frozenset({"s2"})))
    assert due.take(0)["a"].session_ids == {"s1", "s2"}
    assert due.next_at() is None


def test_activity_in_a_container_that_is_in_use_is_seen_at_its_deadline():
    due, touch = Due(), Hint("a", routine=True)
    due.replace([("a", 500)], in_use={"a"})
    assert due.hint(touch) is False
    assert due.next_at() == 500
    assert due.hint(replace(touch, routine=False)) is True
    due.take(0)
    due.settle({"a"}, [("a", 500)])
    assert due.hint(touch) is True
    due.settle({"a"}, [("a", 500)], in_use={"a"})
    assert due.hint(touch) is False
    assert due.hint(Hint("b", routine=True)) is True


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20)), max_size=30), st.integers(0, 20))
def test_whoever_is_due_is_taken_once(deadlines, now):
    due = Due()
    for container_id, at in deadlines:
        due.settle((), [(container_id, at)])
    earliest = {c: min(at for d, at in deadlines if d == c) for c, _ in deadlines}
    assert set(due.take(now)) == {c for c, at in earliest.items() if at <= now}
    assert set(due.take(20)) == {c for c, at in earliest.items() if at > now}

"""What Amazon DynamoDB promises to `controller/aws/tables.py`, on every engine: conditions, transactions, reads."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.contract.dynamodb import INDEX, INVALID, OTHER, REFUSED, TABLE, DynamoDb, change, number, raised, text
from tests.contract.ecs import refused
from tests.contract.engines import Engine
from tests.contract.rules import api, page, rule

ENGINES = ("local", "ministack")

THREADS = 16
CANCELLED = "TransactionCanceledException"
CONSTRAINTS = "Amazon DynamoDB Developer Guide, Constraints"
# Tests that their authors run on DynamoDB, too.
ALTERNATOR = "scylladb/scylladb, test/alternator"


@pytest.fixture
def db(engine: Engine) -> DynamoDb:
    """Return a DynamoDB with two tables."""
    return DynamoDb(engine)


# Conditions


@rule(api("dynamodb", "UpdateItemInput.ConditionExpression", "A condition that must be satisfied"))
def test_a_refused_condition_changes_nothing(db: DynamoDb) -> None:
    """A write whose condition does not hold is a ConditionalCheckFailedException, and the item stays as it was."""
    db.put("a", n=number(1))
    with refused(REFUSED):
        db.update("a", "SET n = :v", "n = :seen", v=number(3), seen=number(2))
    assert db.get("a") == {"n": number(1)}


@rule(api("dynamodb", "UpdateItemInput.ReturnValuesOnConditionCheckFailure", "returns the item attributes for an"))
def test_a_refused_condition_shows_what_is_there(db: DynamoDb) -> None:
    """With ALL_OLD the error carries the item; without an item it carries none."""
    db.put("a", n=number(1))
    for key, item in (("a", {"k": text("a"), "n": number(1)}), ("nobody", None)):
        with refused(REFUSED) as caught:
            db.client.update_item(
                **change(key, "SET n = :v", "n = :v", v=number(2)), ReturnValuesOnConditionCheckFailure="ALL_OLD"
            )
        assert caught.response.get("Item") == item


@rule(api("dynamodb", "UpdateItem", "or adds a new item to the table if it does not already exist"))
def test_an_update_makes_the_item_that_is_not_there(db: DynamoDb) -> None:
    """UpdateItem makes an item that is not there."""
    db.update("new", "SET n = :v", v=number(1))
    assert db.get("new") == {"n": number(1)}


@rule(api("dynamodb", "PutItem", "the attribute_not_exists function will only succeed if no matching item exists"))
def test_a_put_can_ask_that_there_is_none(db: DynamoDb) -> None:
    """PutItem with attribute_not_exists of the key puts an item once."""
    put = {"TableName": TABLE, "Item": {"k": text("a")}, "ConditionExpression": "attribute_not_exists(k)"}
    db.client.put_item(**put)
    with refused(REFUSED):
        db.client.put_item(**put)


CONDITIONS = {
    "n = :two": True,
    "n = :text": False,
    "nowhere = :two": False,
    "n < :three": True,
    "n < :text": False,
    "t < :three": False,
    "nowhere < :three": False,
    "n <= :two": True,
    "n >= :three": False,
    "n > :one": True,
    "n IN (:one, :two)": True,
    "n IN (:one, :text)": False,
    "m.#x = :one": True,
    "m.#y = :one": False,
    "t.#x = :one": False,
    "nowhere.#x = :one": False,
    "attribute_not_exists(nowhere.#x)": True,
    "attribute_not_exists(m.#x)": False,
    "attribute_exists(nothing)": True,
    "attribute_type(n, :number)": True,
    "attribute_type(t, :number)": False,
    "attribute_type(nothing, :null)": True,
    "attribute_type(nowhere, :null)": False,
    "NOT attribute_type(t, :number)": True,
    "NOT attribute_type(nowhere, :number)": True,
    "n = :one OR n = :two AND t = :text": True,
    "(n = :one OR n = :two) AND t = :two": False,
    "e = :empty": True,
    "nowhere = :empty": False,
}


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
@rule(page(f"{ALTERNATOR}/test_condition_expression.py", "If the types are different, this is also considered false"))
def test_what_a_condition_means(db: DynamoDb, condition: str) -> None:
    """A comparison with another type or with nothing is false, never an error, and a path may lead nowhere."""
    values = {
        "one": number(1),
        "two": number(2),
        "three": number(3),
        "text": text("2"),
        "number": text("N"),
        "null": text("NULL"),
        "empty": text(""),
    }
    db.put("a", n=number(2), t=text("2"), e=text(""), m={"M": {"x": number(1)}}, nothing={"NULL": True})
    used = {name: value for name, value in values.items() if re.search(rf":{name}\b", condition)}
    assert db.holds("a", condition, **used) is CONDITIONS[condition]


@rule(page(CONSTRAINTS, "The maximum number of operands for the IN comparator is 100."))
def test_in_takes_100_operands(db: DynamoDb) -> None:
    """IN takes up to 100 operands."""
    db.put("a", n=number(1))
    values = {f"v{n}": number(n) for n in range(101)}
    hundred = dict(list(values.items())[:100])
    assert db.holds("a", f"n IN ({', '.join(':' + name for name in hundred)})", **hundred)
    with refused(INVALID):
        db.holds("a", f"n IN ({', '.join(':' + name for name in values)})", **values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ExpressionAttributeValues": {":v": number(1), ":w": number(2)}},
        {"ExpressionAttributeNames": {"#x": "x"}},
        {"ExpressionAttributeNames": {}},
    ],
    ids=["a value", "a name", "no names"],
)
@rule(
    page(
        f"{ALTERNATOR}/test_update_expression.py",
        "It is forbidden for ExpressionAttributeValues to contain values not used by the expression.",
    )
)
def test_a_name_or_value_that_is_not_used_is_refused(db: DynamoDb, wrong: dict[str, Any]) -> None:
    """A request with a placeholder that no expression uses is refused, as one with an empty map of them."""
    with refused(INVALID):
        db.client.update_item(**{**change("a", "SET n = :v", v=number(1)), **wrong})
    assert db.get("a") is None


@rule(page(CONSTRAINTS, "if you use a reserved word in an expression parameter"))
def test_a_reserved_word_needs_a_placeholder(db: DynamoDb) -> None:
    """An attribute whose name is a reserved word is reached by a placeholder alone."""
    with refused(INVALID):
        db.update("a", "SET name = :v", v=text("x"))
    db.update("a", "SET #name = :v", v=text("x"))
    assert db.get("a") == {"name": text("x")}


# Updates


@rule(api("dynamodb", "UpdateItemInput.UpdateExpression", "for an item that doesn't exist before the update"))
def test_add_counts_from_0_where_there_is_nothing(db: DynamoDb) -> None:
    """ADD makes item and attribute from 0, below 0 too."""
    for by in (1, -1, -1):
        db.update("new", "ADD n :v", v=number(by))
    assert db.get("new") == {"n": number(-1)}


@rule(api("dynamodb", "UpdateItemInput.UpdateExpression", "The ADD action only supports Number and set data types."))
def test_add_to_a_text_is_refused(db: DynamoDb) -> None:
    """ADD to an attribute that is no number is a ValidationException, and changes nothing."""
    db.put("a", n=text("one"))
    with refused(INVALID):
        db.update("a", "ADD n :v", v=number(1))
    assert db.get("a") == {"n": text("one")}


@rule(api("dynamodb", "UpdateItemInput.UpdateExpression", "if_not_exists (path, operand)"))
def test_if_not_exists_keeps_what_is_there(db: DynamoDb) -> None:
    """SET with if_not_exists sets an attribute once."""
    for value in (1, 2):
        db.update("a", "SET n = if_not_exists(n, :v)", v=number(value))
    assert db.get("a") == {"n": number(1)}


@rule(api("dynamodb", "UpdateItemInput.ReturnValues", "all of the attributes of the item, as they appear after"))
def test_all_new_is_the_whole_item_afterwards(db: DynamoDb) -> None:
    """UpdateItem with ALL_NEW answers with the whole item as it is then."""
    db.put("a", n=number(1), t=text("x"))
    answer = db.client.update_item(**change("a", "SET n = :v", v=number(2)), ReturnValues="ALL_NEW")
    assert answer["Attributes"] == {"k": text("a"), "n": number(2), "t": text("x")}


@rule(api("dynamodb", "UpdateItemInput.UpdateExpression", "REMOVE - Removes one or more attributes from an item."))
def test_set_and_remove_reach_into_maps(db: DynamoDb) -> None:
    """SET and REMOVE change one attribute of a map and leave its others."""
    db.put("a", m={"M": {"x": number(1), "y": number(2)}})
    db.update("a", "SET m.#z = :v REMOVE m.#x", v=number(3))
    assert db.get("a") == {"m": {"M": {"y": number(2), "z": number(3)}}}


@rule(api("dynamodb", "UpdateItemInput.UpdateExpression", "REMOVE - Removes one or more attributes from an item."))
def test_removing_nothing_is_no_error(db: DynamoDb) -> None:
    """REMOVE of an attribute that is not there changes nothing."""
    db.put("a", n=number(1))
    db.update("a", "REMOVE nowhere")
    assert db.get("a") == {"n": number(1)}


@pytest.mark.parametrize(
    "expression",
    ["SET nowhere.#x = :v", "SET k = :v", "SET n = :v REMOVE n", "SET m = :v, m.#x = :v", "SET n = :v, n = :v"],
    ids=["into nothing", "the key", "set and removed", "overlapping", "twice"],
)
@rule(
    page(
        f"{ALTERNATOR}/test_update_expression.py",
        "Trying to modify the same item twice in the same update is forbidden.",
    )
)
def test_an_update_that_cannot_be_is_refused(db: DynamoDb, expression: str) -> None:
    """An update into a map that is not there, of the key, or of one place twice, is a ValidationException."""
    db.put("a", n=number(1))
    with refused(INVALID):
        db.update("a", expression, v=text("x"))
    assert db.get("a") == {"n": number(1)}


@rule(api("dynamodb", "DeleteItem", "does not result in an error response"))
def test_deleting_nothing_is_no_error_and_shows_nothing(db: DynamoDb) -> None:
    """DeleteItem of what is not there is no error; ALL_OLD tells the two apart."""
    db.put("a", n=number(1))
    delete = {"TableName": TABLE, "Key": {"k": text("a")}, "ReturnValues": "ALL_OLD"}
    assert db.client.delete_item(**delete)["Attributes"] == {"k": text("a"), "n": number(1)}
    assert "Attributes" not in db.client.delete_item(**delete)


@rule(api("dynamodb", "PutItem", "Empty String and Binary attribute values are allowed."))
def test_a_text_may_be_empty_and_a_key_not(db: DynamoDb) -> None:
    """An attribute may be an empty text, the key may not."""
    db.put("a", t=text(""))
    assert db.get("a") == {"t": text("")}
    with refused(INVALID):
        db.put("")


@rule(page(CONSTRAINTS, "The maximum length is 2048 bytes."))
def test_a_key_has_2048_bytes(db: DynamoDb) -> None:
    """A partition key has up to 2,048 bytes of UTF-8."""
    db.put("é" * 1024)
    assert db.get("é" * 1024) == {}
    with refused(INVALID):
        db.put("é" * 1024 + "x")


@rule(page(CONSTRAINTS, "A Number can have up to 38 digits of precision"))
def test_numbers_are_exact_to_38_digits(db: DynamoDb) -> None:
    """A number of 38 digits comes back as it was, one of 39 is refused."""
    db.put("a", n=number("9" * 38), s=number("1E-130"))
    item = db.get("a")
    assert item is not None
    assert (item["n"], float(item["s"]["N"])) == (number("9" * 38), 1e-130)
    with refused(INVALID):
        db.put("b", n=number("9" * 39))


@rule(api("dynamodb", "AttributeValue.N", "DynamoDB treats them as number type attributes"))
def test_a_number_is_one_however_it_is_written(db: DynamoDb) -> None:
    """Numbers are compared as numbers: 10, 10.0 and 1E1 are one."""
    db.put("a", n=number("10"))
    for written in ("10", "10.0", "1E1"):
        assert db.holds("a", "n = :v", v=number(written)), written


# Transactions


@rule(api("dynamodb", "TransactWriteItems", "either all of them succeed, or all of them fail"))
def test_a_transaction_is_all_or_nothing(db: DynamoDb) -> None:
    """When one condition of a transaction does not hold, none of its writes happens."""
    db.put("a", n=number(1))
    with refused(CANCELLED):
        db.transact(
            {"Put": {"TableName": OTHER, "Item": {"k": text("new")}}},
            {"Update": change("a", "SET n = :v", "n = :seen", v=number(3), seen=number(2))},
        )
    assert (db.get("new", OTHER), db.get("a")) == (None, {"n": number(1)})


@rule(api("dynamodb", "TransactionCanceledException", "ordered in the order of requested items"))
def test_reasons_come_in_the_order_of_the_request(db: DynamoDb) -> None:
    """CancellationReasons has a reason for each write in its place, the text None where there is none."""
    db.put("a", n=number(1))
    with refused(CANCELLED) as caught:
        db.transact(
            {"Put": {"TableName": OTHER, "Item": {"k": text("new")}}},
            {"Update": change("a", "SET n = :v", "n = :seen", v=number(3), seen=number(2))},
            {"Delete": {"TableName": OTHER, "Key": {"k": text("gone")}}},
        )
    codes = [reason["Code"] for reason in caught.response["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed", "None"]


@rule(api("dynamodb", "CancellationReason.Item", "Item in the request which caused the transaction to get cancelled."))
def test_a_reason_shows_the_item_when_asked_to(db: DynamoDb) -> None:
    """With ALL_OLD a reason carries the item that did not meet the condition, without it none."""
    db.put("a", n=number(1))
    for asked, item in (("ALL_OLD", {"k": text("a"), "n": number(1)}), ("NONE", None)):
        update = change("a", "SET n = :v", "n = :v", v=number(2))
        with refused(CANCELLED) as caught:
            db.transact({"Update": {**update, "ReturnValuesOnConditionCheckFailure": asked}})
        [reason] = caught.response["CancellationReasons"]
        assert reason.get("Item") == item


@rule(api("dynamodb", "TransactWriteItems", "no two actions can target the same item"))
def test_a_transaction_touches_no_item_twice(db: DynamoDb) -> None:
    """A transaction with two writes to one item is refused."""
    with refused(INVALID):
        db.transact(
            {"Put": {"TableName": TABLE, "Item": {"k": text("a")}}},
            {"Update": change("a", "ADD n :v", v=number(1))},
        )
    assert db.get("a") is None


@rule(api("dynamodb", "TransactWriteItems", "groups up to 100 action requests"))
def test_a_transaction_has_100_writes(db: DynamoDb) -> None:
    """A transaction has up to 100 writes."""
    puts = [{"Put": {"TableName": TABLE, "Item": {"k": text(f"k{n}")}}} for n in range(101)]
    db.transact(*puts[:100])
    with refused(INVALID):
        db.transact(*puts)


@rule(api("dynamodb", "TransactWriteItemsInput.ClientRequestToken", "multiple identical calls have the same effect as"))
def test_a_repeated_transaction_counts_once(db: DynamoDb) -> None:
    """A transaction repeated with its ClientRequestToken succeeds and does nothing more."""
    for _ in range(2):
        db.transact(
            {"Put": {"TableName": OTHER, "Item": {"k": text("s")}, "ConditionExpression": "attribute_not_exists(k)"}},
            {"Update": change("a", "ADD n :v", v=number(1))},
            ClientRequestToken="t",
        )
    assert db.number("a") == 1


@rule(api("dynamodb", "IdempotentParameterMismatchException", "with an idempotent token that was already used"))
def test_another_transaction_with_the_token_is_refused(db: DynamoDb) -> None:
    """The ClientRequestToken with another transaction is an IdempotentParameterMismatchException."""
    db.transact({"Update": change("a", "ADD n :v", v=number(1))}, ClientRequestToken="t")
    with refused("IdempotentParameterMismatchException"):
        db.transact({"Update": change("b", "ADD n :v", v=number(1))}, ClientRequestToken="t")
    assert db.get("b") is None


@rule(api("dynamodb", "TransactWriteItems", "There is a user error, such as an invalid data format."))
def test_a_transaction_that_adds_to_a_text_is_refused(db: DynamoDb) -> None:
    """A transaction with an ADD to a text is refused whole."""
    db.put("a", n=text("one"))
    with pytest.raises(ClientError) as caught:
        db.transact(
            {"Put": {"TableName": OTHER, "Item": {"k": text("new")}}},
            {"Update": change("a", "ADD n :v", v=number(1))},
        )
    assert caught.value.response["Error"]["Code"] in (CANCELLED, INVALID)
    assert (db.get("new", OTHER), db.get("a")) == (None, {"n": text("one")})


# Races


def race(work: Any) -> list[Any]:
    """Return what 16 threads get that begin together."""
    together = Barrier(THREADS)

    def run(number_of_thread: int) -> Any:
        together.wait(10)
        return work(number_of_thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def won(call: Any, *codes: str) -> bool:
    """Return whether a call worked; it may be refused with these codes."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return False
    return True


COMPARE_AND_SET = page(
    "Amazon DynamoDB Developer Guide, Best practices for handling concurrent updates",
    "If a conflict is detected, the write fails and the application can retry.",
)


@pytest.mark.usefixtures("close_race")
@rule(COMPARE_AND_SET)
def test_compare_and_set_is_exact_with_16_threads(db: DynamoDb) -> None:
    """Of writers that saw the same number one wins: as many win as the number grows by."""
    db.put("a", n=number(0))
    wins = sum(
        race(
            lambda _: sum(won(lambda: db.client.update_item(**raised("a", db.number("a"))), REFUSED) for _ in range(4))
        )
    )
    assert 0 < wins < 4 * THREADS
    assert db.number("a") == wins


@pytest.mark.usefixtures("close_race")
@rule(api("dynamodb", "TransactWriteItems", "The actions are completed atomically"))
def test_transactions_are_exact_with_16_threads(db: DynamoDb) -> None:
    """Of transactions that saw the same numbers one wins, and both its writes are there."""
    for table in (TABLE, OTHER):
        db.client.put_item(TableName=table, Item={"k": text("a"), "n": number(0)})

    def tries(_: int) -> int:
        seen = db.number("a")
        operations = [{"Update": raised("a", seen)}, {"Update": raised("a", seen, OTHER)}]
        return won(lambda: db.transact(*operations), CANCELLED)

    wins = sum(sum(race(tries)) for _ in range(3))
    assert 0 < wins < 3 * THREADS
    assert (db.number("a"), db.number("a", OTHER)) == (wins, wins)


@pytest.mark.usefixtures("close_race")
@rule(api("dynamodb", "UpdateItemInput.UpdateExpression", "Value is mathematically added to the existing attribute"))
def test_add_loses_nothing_with_16_threads(db: DynamoDb) -> None:
    """ADD by sixteen threads at once counts every one."""
    race(lambda _: db.update("a", "ADD n :v", v=number(1)))
    assert db.number("a") == THREADS


@pytest.mark.usefixtures("close_race")
@rule(api("dynamodb", "PutItem", "To prevent a new item from replacing an existing item, use a conditional expression"))
def test_a_put_if_absent_has_one_winner_of_16(db: DynamoDb) -> None:
    """Of sixteen conditional puts of one key at once one wins, and its item is there."""

    def put(number_of_thread: int) -> bool:
        item = {"k": text("a"), "n": number(number_of_thread)}
        condition = "attribute_not_exists(k)"
        return won(lambda: db.client.put_item(TableName=TABLE, Item=item, ConditionExpression=condition), REFUSED)

    wins = race(put)
    assert (sum(wins), wins[db.number("a")]) == (1, True)


# Reads


@rule(api("dynamodb", "GetItem", "there will be no Item element in the response"))
def test_what_is_not_there_is_no_item(db: DynamoDb) -> None:
    """GetItem of what is not there answers without an item."""
    assert "Item" not in db.client.get_item(TableName=TABLE, Key={"k": text("nobody")}, ConsistentRead=True)


@pytest.mark.parametrize("read", ["query", "scan"])
@rule(api("dynamodb", "QueryInput.ConsistentRead", "not supported on global secondary indexes"))
def test_an_index_cannot_be_read_strongly(db: DynamoDb, read: str) -> None:
    """A Query or Scan of a global secondary index with ConsistentRead is a ValidationException."""
    request: dict[str, Any] = {"TableName": TABLE, "IndexName": INDEX, "ConsistentRead": True}
    if read == "query":
        request |= {"KeyConditionExpression": "#o = :o", "ExpressionAttributeNames": {"#o": "owner"}}
        request |= {"ExpressionAttributeValues": {":o": text("x")}}
    with refused(INVALID):
        getattr(db.client, read)(**request)


@rule(
    page(
        "Amazon DynamoDB Developer Guide, Take advantage of sparse indexes",
        "only if the index key attributes are present in the item",
    )
)
def test_an_index_has_the_items_with_its_key(db: DynamoDb) -> None:
    """An index holds the items that have its key, and a Query finds those of one value."""
    db.put("a", owner=text("x"))
    db.put("b", owner=text("y"))
    db.put("c")
    found = db.client.query(
        TableName=TABLE,
        IndexName=INDEX,
        KeyConditionExpression="#o = :o",
        ExpressionAttributeNames={"#o": "owner"},
        ExpressionAttributeValues={":o": text("x")},
    )
    assert [item["k"]["S"] for item in found["Items"]] == ["a"]
    indexed = db.client.scan(TableName=TABLE, IndexName=INDEX)["Items"]
    assert sorted(item["k"]["S"] for item in indexed) == ["a", "b"]


@rule(
    page(
        "Amazon DynamoDB Developer Guide, Using global secondary indexes",
        "returns a ValidationException because of the data type mismatch",
    )
)
def test_the_key_of_an_index_has_its_type(db: DynamoDb) -> None:
    """An item whose attribute for an index is of another type than the index has it is refused."""
    with refused(INVALID):
        db.put("a", owner=number(1))


@rule(api("dynamodb", "ScanOutput.LastEvaluatedKey", "The only way to know when you have reached the end"))
def test_pages_of_a_scan_together_are_the_table(db: DynamoDb) -> None:
    """A Scan with a limit ends its page with LastEvaluatedKey, and goes on behind it."""
    for n in range(7):
        db.put(f"k{n}")
    seen: list[str] = []
    start: dict[str, Any] = {}
    while True:
        found = db.client.scan(TableName=TABLE, Limit=3, ConsistentRead=True, **start)
        assert len(found["Items"]) <= 3
        seen += [item["k"]["S"] for item in found["Items"]]
        if "LastEvaluatedKey" not in found:
            break
        start = {"ExclusiveStartKey": found["LastEvaluatedKey"]}
    assert sorted(seen) == [f"k{n}" for n in range(7)]


@rule(api("dynamodb", "ScanInput.FilterExpression", "is applied after the items have already been read"))
def test_a_filter_is_applied_after_the_limit(db: DynamoDb) -> None:
    """A page counts what it read, not what its filter let through: it may be empty, with more behind it."""
    for n in range(4):
        db.put(f"k{n}", n=number(n))
    found = db.client.scan(
        TableName=TABLE, Limit=2, FilterExpression="n = :v", ExpressionAttributeValues={":v": number(9)}
    )
    assert (found["Items"], found["Count"], found["ScannedCount"]) == ([], 0, 2)
    assert "LastEvaluatedKey" in found


@rule(page(CONSTRAINTS, "The result set from a Scan is limited to 1 MB per call."))
def test_a_page_of_a_scan_has_1_mb(db: DynamoDb) -> None:
    """A Scan without a limit ends its page after 1 MB."""
    for n in range(4):
        db.put(f"k{n}", t=text("x" * 300_000))
    first = db.client.scan(TableName=TABLE)
    assert 0 < len(first["Items"]) < 4
    rest = db.client.scan(TableName=TABLE, ExclusiveStartKey=first["LastEvaluatedKey"])
    assert len(first["Items"]) + len(rest["Items"]) == 4


@rule(api("dynamodb", "ScanInput.ConsistentRead", "write operations that completed before the Scan began"))
def test_a_strong_scan_has_what_was_written_before(db: DynamoDb) -> None:
    """A Scan with ConsistentRead has every write that was answered before it, with a filter too."""
    for n in range(20):
        db.put(f"k{n}", owner=text(f"o{n % 2}"))
    found = db.client.scan(
        TableName=TABLE,
        ConsistentRead=True,
        FilterExpression="#o IN (:a, :b)",
        ExpressionAttributeNames={"#o": "owner"},
        ExpressionAttributeValues={":a": text("o1"), ":b": text("nobody")},
    )
    assert (found["Count"], found["ScannedCount"]) == (10, 20)


@rule(api("dynamodb", "BatchGetItem", "If a requested item does not exist, it is not returned in the result."))
def test_a_batch_has_the_items_there_are(db: DynamoDb) -> None:
    """BatchGetItem answers with the items there are, strongly when asked to."""
    db.put("a", n=number(1))
    keys = [{"k": text("a")}, {"k": text("nobody")}]
    answer = db.client.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}})
    assert answer["Responses"][TABLE] == [{"k": text("a"), "n": number(1)}]
    assert answer["UnprocessedKeys"] == {}


@rule(api("dynamodb", "BatchGetItem", "If you request more than 100 items, BatchGetItem returns a ValidationException"))
def test_a_batch_has_100_keys(db: DynamoDb) -> None:
    """BatchGetItem takes up to 100 keys."""
    keys = [{"k": text(f"k{n}")} for n in range(101)]
    db.client.batch_get_item(RequestItems={TABLE: {"Keys": keys[:100]}})
    with refused(INVALID):
        db.client.batch_get_item(RequestItems={TABLE: {"Keys": keys}})


@rule(api("dynamodb", "BatchGetItem", "ValidationException if the same key is specified multiple times"))
def test_a_batch_has_no_key_twice(db: DynamoDb) -> None:
    """BatchGetItem with one key twice is refused."""
    with refused(INVALID):
        db.client.batch_get_item(RequestItems={TABLE: {"Keys": [{"k": text("a")}] * 2}})


# Tables


@rule(api("dynamodb", "ResourceInUseException", "You attempted to recreate an existing table."))
def test_a_table_is_made_once(db: DynamoDb) -> None:
    """CreateTable of one that is there is a ResourceInUseException."""
    with refused("ResourceInUseException"):
        db.create(TABLE)


@pytest.mark.parametrize("operation", ["describe_table", "get_item", "scan", "update_item", "transact_write_items"])
@rule(api("dynamodb", "ResourceNotFoundException", "The operation tried to access a nonexistent table or index."))
def test_a_table_that_is_not_there_is_said_to_be(db: DynamoDb, operation: str) -> None:
    """Every operation on a table that is not there is a ResourceNotFoundException."""
    key = {"k": text("a")}
    request: dict[str, Any] = {
        "get_item": {"TableName": "nobody", "Key": key},
        "update_item": change("a", "SET n = :v", "", "nobody", v=number(1)),
        "transact_write_items": {"TransactItems": [{"Delete": {"TableName": "nobody", "Key": key}}]},
    }.get(operation, {"TableName": "nobody"})
    with refused("ResourceNotFoundException"):
        getattr(db.client, operation)(**request)


@rule(api("dynamodb", "TableDescription.TableId", "generated by DynamoDB when the table is created"))
def test_a_table_that_is_made_again_has_another_id(db: DynamoDb) -> None:
    """A table has an id, and another one after it was deleted and made again."""

    def shown() -> Any:
        return db.client.describe_table(TableName=OTHER)["Table"].get("TableId")

    before = shown()
    db.client.delete_table(TableName=OTHER)
    db.create(OTHER)
    assert before
    assert shown() not in (before, None)


@rule(api("dynamodb", "DescribeTable", "the primary key schema, and any indexes on the table"))
def test_a_table_is_described_as_it_was_made(db: DynamoDb) -> None:
    """DescribeTable shows key, types, indexes, billing and stream."""
    table = db.client.describe_table(TableName=TABLE)["Table"]
    [index] = table["GlobalSecondaryIndexes"]
    assert (table["TableStatus"], index["IndexStatus"]) == ("ACTIVE", "ACTIVE")
    assert table["KeySchema"] == [{"AttributeName": "k", "KeyType": "HASH"}]
    assert index["KeySchema"] == [{"AttributeName": "owner", "KeyType": "HASH"}]
    assert {d["AttributeName"]: d["AttributeType"] for d in table["AttributeDefinitions"]} == {"k": "S", "owner": "S"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}

"""The SuperLink's state: who gets which message, what is left of one, and what another process finds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

from palate_server.flower.kept_state import KeptFile, KeptState

SECRET = b"a masked vector of one device " * 50


def make(file: Path | None = None) -> KeptState:
    return KeptState(NoOpFederationManager(), InMemoryObjectStore(), file=file)


def node(state: KeptState, key: bytes) -> int:
    """A node that is online."""
    number = state.create_node("aid", "name", key, 30.0)
    assert state.activate_node(number, 30.0)
    return number


def begin(state: KeptState) -> tuple[int, str]:
    """A run whose ServerApp has started; its number and token."""
    fab = state.store_fab(Fab("", b"a bundle", {}))
    run = state.create_run("id", "1", fab, {}, NOOP_FEDERATION_ID, None, "aid", TaskType.SERVER_APP)
    (task,) = state.get_tasks(run_ids=[run])
    token = state.claim_task(task.task_id)
    assert token is not None
    assert state.activate_task(task.task_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task.task_id, run, SUPERLINK_NODE_ID
    return run, token


def parts_of(message: Message) -> tuple[Message, Any, dict[str, bytes]]:
    """A message as it is stored, its tree, and its objects."""
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
        return remove_content_from_message(message), get_object_tree(message), objects


def test_what_a_file_no_longer_keeps_is_overwritten(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "kept.db")
    file.replace(["run"], [("run", "1", b"token of a former run " * 40), ("node", "2", b"stays")])
    file.replace(["run"], [("run", "3", b"later")])
    data = (tmp_path / "kept.db").read_bytes()
    assert (b"former" in data, b"stays" in data, b"later" in data) == (False, True, True)


def put(state: KeptState, run: int, message: Message, *, most: int = 9) -> str:
    """Store a message and `most` of its objects."""
    slim, tree, objects = parts_of(message)
    session = state.start_session(run)
    stored, missing = state.store_message_and_object_tree(slim, tree, session)
    assert stored
    for name in missing[:most]:
        assert state.store_object(run, session, name, objects[name])
    return slim.metadata.message_id


def ask(state: KeptState, run: int, to: int, value: bytes = b"request", **more: Any) -> str:
    return put(state, run, Message(RecordDict({"palate": ConfigRecord({"request": value})}), to, "train"), **more)


def answer(state: KeptState, run: int, asked: Message, **more: Any) -> str:
    made = Message(RecordDict({"palate": ConfigRecord({"answer": SECRET})}), reply_to=asked)
    made.metadata.__dict__["_src_node_id"] = asked.metadata.dst_node_id
    return put(state, run, made, **more)


@pytest.fixture
def state(tmp_path: Path) -> KeptState:
    return make(tmp_path / "superlink.db")


def test_a_node_gets_its_own_messages_in_order_and_each_once(state: KeptState) -> None:
    run, _ = begin(state)
    one, other = node(state, b"one"), node(state, b"other")
    told: list[int] = []
    state.on_message = told.append
    first, theirs, second = ask(state, run, one, b"1"), ask(state, run, other), ask(state, run, one, b"2")
    assert told == [one, other, one]
    assert state.next_of(one) == first
    got = [state.get_message_ins(one, 1) for _ in range(3)]
    assert [[each.metadata.message_id for each in messages] for messages in got] == [[first], [second], []]
    assert [each.metadata.message_id for each in state.get_message_ins(other, None)] == [theirs]
    assert state.get_message_ins(other, None, run_id=run) == []
    assert put_again(state, run, one) == 1


def put_again(state: KeptState, run: int, to: int) -> int:
    """How often a message is handed over that is sent twice."""
    message = Message(RecordDict({"palate": ConfigRecord({"request": b"3"})}), to, "train")
    put(state, run, message)
    slim, tree, _ = parts_of(message)
    assert state.store_message_and_object_tree(slim, tree, state.start_session(run)) == (True, [])
    return len(state.get_message_ins(to, None))


def test_a_message_that_was_lost_on_the_way_is_handed_over_again_until_it_is_answered(state: KeptState) -> None:
    run, _ = begin(state)
    number = node(state, b"key")
    first, second = ask(state, run, number, b"1"), ask(state, run, number, b"2")
    (got,) = state.get_message_ins(number, 1)
    state.hand_over_again(number, have=first)
    assert state.next_of(number) == second
    state.hand_over_again(number, have="")
    state.hand_over_again(number, have="")
    assert [each.metadata.message_id for each in state.get_message_ins(number, None)] == [first, second]
    state.hand_over_again(number, have=first)
    (got,) = state.get_message_ins(number, None)
    assert got.metadata.message_id == second
    answer(state, run, got)
    state.hand_over_again(number, have=first)
    assert state.get_message_ins(number, None) == []


def test_an_answer_is_delivered_when_it_is_whole_and_then_nothing_is_left_of_it(state: KeptState) -> None:
    run, _ = begin(state)
    number = node(state, b"key")
    told: list[str] = []
    state.on_answer = told.append
    asked = ask(state, run, number)
    (got,) = state.get_message_ins(number, 1)
    made = Message(RecordDict({"palate": ConfigRecord({"answer": SECRET})}), reply_to=got)
    made.metadata.__dict__["_src_node_id"] = number
    name = put(state, run, made, most=2)
    assert (told, state.delivered(asked), state.whole(name)) == ([], None, False)
    _, _, objects = parts_of(made)
    session = next(iter(state._object_push_sessions))
    for part, data in objects.items():
        state.store_object(run, session, part, data)
    assert (told, state.whole(name)) == ([asked], True)
    found = state.delivered(asked)
    assert found is not None
    assert {data for data in found[1]} == set(objects.values())
    assert found[0].metadata.src_node_id == number
    assert (len(state.object_store), state.num_message_ins(), state.num_message_res()) == (0, 0, 0)  # type: ignore[arg-type]
    assert state.delivered(asked) is None


def test_whose_node_is_gone_or_whose_time_is_over_is_not_waited_for(state: KeptState) -> None:
    run, _ = begin(state)
    here, left, away = (node(state, key) for key in (b"here", b"left", b"away"))
    asked = {number: ask(state, run, number) for number in (here, left, away)}
    for number in (left, away):
        state.deactivate_node(number)
    state.nodes[here].online_until = 0.0
    assert state.online() == []
    assert state.out_of_reach([*asked.values(), "ab"]) == {asked[left], asked[away], "ab"}
    (got,) = state.get_message_ins(left, 1)
    answer(state, run, got)
    assert asked[left] not in state.out_of_reach(asked.values()), "its answer is there"


def test_a_purge_leaves_nothing_of_any_message(state: KeptState) -> None:
    run, _ = begin(state)
    number = node(state, b"key")
    ask(state, run, number, b"1", most=1)
    ask(state, run, number, b"2")
    (got,) = state.get_message_ins(number, 1)
    answer(state, run, got, most=1)
    state.purge()
    assert (len(state.object_store), state.num_message_ins(), state.num_message_res()) == (0, 0, 0)  # type: ignore[arg-type]
    assert not state._object_push_sessions
    assert state.get_message_ins(number, None) == []
    state.hand_over_again(number, have="")
    assert state.next_of(number) is None


def test_another_process_finds_nodes_and_the_run_and_nothing_of_a_message(tmp_path: Path) -> None:
    file = tmp_path / "superlink.db"
    state = make(file)
    run, token = begin(state)
    numbers = [node(state, key) for key in (b"one", b"two", b"three")]
    state.delete_node("aid", numbers[2])
    ask(state, run, numbers[0], SECRET)
    (got,) = state.get_message_ins(numbers[0], 1)
    answer(state, run, got)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(SECRET[:30] in path.read_bytes() for path in tmp_path.iterdir())
    after = make(file)
    assert [after.get_node_id_by_public_key(key) for key in (b"one", b"two", b"three")] == [*numbers[:2], None]
    assert after.online() == []
    assert after.out_of_reach([ask(after, run, numbers[0])]) == set(), "it is waited for"
    after.purge()
    assert after.acknowledge_node_heartbeat(numbers[0], 30.0)
    assert after.online() == [numbers[0]]
    task = after.get_task_by_token(token)
    assert task is not None
    assert (task.run_id, after.get_run_status({run})[run].status) == (run, "running")
    assert after.get_fab(after.get_run_info(run_ids=[run])[0].fab_hash) is not None
    assert (after.num_message_ins(), after.next_of(numbers[0])) == (0, None)
    assert after.finish_task(task.task_id, SubStatus.COMPLETED, "")
    assert make(file).run_ids == {}, "a run that is over is not kept"
    assert make(file).get_node_id_by_public_key(b"one") == numbers[0]


@pytest.mark.parametrize("there", ["flower", "garbage"])
def test_a_file_of_another_kind_is_replaced(tmp_path: Path, there: str) -> None:
    file = tmp_path / "superlink.db"
    if there == "garbage":
        file.write_bytes(b"x" * 5000)
    else:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE objects(content BLOB)")
            connection.execute("INSERT INTO objects VALUES (?)", (SECRET,))
            connection.commit()
    number = node(make(file), b"key")
    assert SECRET[:30] not in file.read_bytes()
    assert make(file).get_node_id_by_public_key(b"key") == number


def test_of_a_node_that_was_removed_nothing_stays_and_no_message_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "superlink.db"
    state = make(file)
    run, _ = begin(state)
    number = node(state, b"the key of one who leaves")
    state.delete_node("aid", number)
    slim, tree, _ = parts_of(Message(RecordDict({"palate": ConfigRecord({"request": b"x"})}), number, "train"))
    stored, _ = state.store_message_and_object_tree(slim, tree, state.start_session(run))
    assert not stored
    assert str(number) not in caplog.text
    assert make(file).nodes == {}
    for left in tmp_path.iterdir():
        assert b"the key of one who leaves" not in left.read_bytes()
        assert str(number).encode() not in left.read_bytes()
    assert node(state, b"the key of one who leaves") == number, "a device may come back to a SuperLink"

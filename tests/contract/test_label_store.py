"""What every label store promises, held over memory and over RocksDB."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.keys import label_key
from stream_ensemble.core.labels.records import Answer, Verdict
from stream_ensemble.errors import StateError
from stream_ensemble.messages import CreditBlock, Trial
from stream_ensemble.stores.labels import LabelStore, Position
from stream_ensemble.stores.memory_labels import MemoryLabelStore
from stream_ensemble.stores.rocks_labels import RocksLabelStore, open_label_store

HERE = Position("owner-1", fused=10, feedback=20, applied=30)


@pytest.fixture(params=["memory", "rocksdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LabelStore]:
    opened: LabelStore = MemoryLabelStore() if request.param == "memory" else RocksLabelStore(tmp_path / "0")
    yield opened
    opened.close()


def learned(label: str = "cat", appended: int = 5) -> Verdict:
    return Verdict(True, label, 0, 1.0, appended, ("feedback", 0, 7, 0), 3)


def parked(appended: int, label: str = "dog") -> Verdict:
    return Verdict(False, label, 0, 1.0, appended, ("feedback", 0, 8, 0), record=b'{"label":1}')


def block(n: int) -> CreditBlock:
    return CreditBlock(algorithm="ml_poly", generation=0, n=n, members=("a", "b"), values="AAAA")


def test_an_empty_store_knows_nothing_and_has_no_position(store: LabelStore) -> None:
    assert store.position() is None
    assert store.answer("x") is None
    assert store.verdict("x") is None
    assert store.block("x") is None
    assert store.parked(2**40, 10) == []
    assert store.parked_count() == 0
    assert store.expire(2**40, 10) == 0


def test_labels_of_parts_stand_beside_each_other_and_beside_their_request(store: LabelStore) -> None:
    keys = [label_key("ü", "24h"), label_key("ü", "48h"), "ü", label_key("üü", "24h")]
    changes = Changes(store)
    changes.answers["ü"] = Answer(3, 4, b"kept")
    for at, key in enumerate(keys[:3]):
        changes.decide(key, learned(f"{at}.0"))
    changes.decide(keys[3], parked(9))
    store.write(changes, HERE)
    assert store.look_up(keys) == [
        (learned("0.0"), None),
        (learned("1.0"), None),
        (learned("2.0"), Answer(3, 4, b"kept")),
        (parked(9), None),
    ]
    assert [store.verdict(key) for key in keys] == [verdict for verdict, _ in store.look_up(keys)]
    assert store.parked(10, 5) == [(keys[3], parked(9))]
    changes = Changes(store)
    changes.decide(keys[3], None)
    store.write(changes, HERE)
    assert store.parked_count() == 0
    store.expire(6, 100)
    assert store.look_up(keys) == [(None, None)] * 4


def trial(member: str, appended: int, share: float = 0.5) -> Trial:
    output = [share, 1 - share]
    return Trial(
        version=1,
        kind="trial",
        request_id="ü",
        member=member,
        output=output,
        appended=appended,
        source=("p", 0, 3, 1),
    )


def test_what_shadows_said_late_is_kept_by_member_the_first_of_each_and_expires(store: LabelStore) -> None:
    assert not store.has_trials()
    assert store.trials("ü") == {}
    changes = Changes(store)
    changes.keep_trial(trial("s", 100))
    changes.keep_trial(trial("s", 101, 0.9))
    assert changes.trials("ü") == {"s": trial("s", 100)}
    store.write(changes, HERE)
    assert store.has_trials()
    changes = Changes(store)
    changes.keep_trial(trial("s", 300, 0.1))
    changes.keep_trial(trial("t", 200))
    assert changes.trials("ü") == {"s": trial("s", 100), "t": trial("t", 200)}
    store.write(changes, HERE)
    store.expire(200, 10)
    assert store.trials("ü") == {"s": trial("s", 100), "t": trial("t", 200)}
    store.expire(201, 10)
    assert store.trials("ü") == {}
    store.write(changes, HERE)
    store.clear()
    assert not store.has_trials()


def test_gives_back_what_was_written(store: LabelStore) -> None:
    changes = Changes(store)
    changes.answers = {"ü": Answer(7, 1000, b"\x00bytes\xff"), "plain": Answer(2**40, 2**41, b"")}
    changes.blocks["digest"] = (1000, block(4))
    changes.decide("ü", learned())
    changes.decide("early", parked(77))
    store.write(changes, HERE)
    assert store.position() == HERE
    assert store.answer("ü") == Answer(7, 1000, b"\x00bytes\xff")
    assert store.answer("plain") == Answer(2**40, 2**41, b"")
    assert store.block("digest") == block(4)
    assert store.verdict("ü") == learned()
    assert store.verdict("early") == parked(77)
    assert store.parked_count() == 1


def test_parked_labels_come_oldest_first_and_only_those_before(store: LabelStore) -> None:
    changes = Changes(store)
    for appended in (300, 5, 100, 2**33, 200):
        changes.decide(f"r{appended}", parked(appended))
    store.write(changes, HERE)
    assert [name for name, _ in store.parked(300, 10)] == ["r5", "r100", "r200"]
    assert [name for name, _ in store.parked(2**40, 2)] == ["r5", "r100"]
    assert store.parked(5, 10) == []


def test_what_is_written_takes_bytes(store: LabelStore) -> None:
    before = store.stored_bytes()
    changes = Changes(store)
    changes.answers = {f"r{n}": Answer(n, n, b"x" * 1000) for n in range(1000)}
    store.write(changes, HERE)
    assert store.stored_bytes() - before >= 900_000


def test_a_parked_label_that_is_learned_replaced_or_given_up_is_parked_no_more(store: LabelStore) -> None:
    changes = Changes(store)
    for name in ("learned", "replaced", "given-up", "stays"):
        changes.decide(name, parked(10))
    store.write(changes, HERE)
    changes = Changes(store)
    changes.decide("learned", learned(appended=10))
    changes.decide("replaced", parked(20))
    changes.decide("given-up", None)
    assert changes.parked_count() == 2
    assert [name for name, _ in changes.parked(15, 10)] == ["stays"]
    store.write(changes, HERE)
    assert store.parked_count() == 2
    assert store.parked(2**40, 10) == [("stays", parked(10)), ("replaced", parked(20))]
    assert store.verdict("given-up") is None


def test_what_is_old_expires_by_its_own_append_time_and_parked_labels_stay(store: LabelStore) -> None:
    changes = Changes(store)
    changes.answers = {"old": Answer(1, 99, b"o"), "young": Answer(2, 100, b"y")}
    changes.decide("old", learned(appended=120))
    changes.decide("older", learned(appended=98))
    changes.decide("waits", parked(1))
    changes.blocks["unused"] = (50, block(1))
    changes.blocks["carried-again"] = (50, block(2))
    store.write(changes, HERE)
    again = Changes(store)
    again.blocks["carried-again"] = (100, block(2))
    store.write(again, HERE)
    assert store.expire(100, 10) == 1
    assert store.answer("old") is None
    assert store.answer("young") == Answer(2, 100, b"y")
    assert store.verdict("old") == learned(appended=120)
    assert store.verdict("older") is None
    assert store.verdict("waits") == parked(1)
    assert store.block("unused") is None
    assert store.block("carried-again") == block(2)
    assert store.expire(100, 10) == 0


def test_a_correction_keeps_a_verdict_from_expiring_with_the_label_it_replaced(store: LabelStore) -> None:
    for appended in (10, 200):
        changes = Changes(store)
        changes.decide("r", learned(appended=appended))
        store.write(changes, HERE)
    store.expire(100, 10)
    assert store.verdict("r") == learned(appended=200)


def test_expiry_is_bounded(store: LabelStore) -> None:
    changes = Changes(store)
    changes.answers = {f"r{n}": Answer(n, n, b"") for n in range(10)}
    store.write(changes, HERE)
    assert [store.expire(100, 4) for _ in range(4)] == [4, 4, 2, 0]


def test_many_are_looked_up_at_once_as_one_by_one(store: LabelStore) -> None:
    changes = Changes(store)
    changes.answers = {"both": Answer(7, 1000, b"x"), "answer": Answer(8, 1001, b"")}
    changes.decide("both", learned())
    changes.decide("waits", parked(77))
    store.write(changes, HERE)
    newer = Changes(store)
    newer.answers["waits"] = Answer(9, 1002, b"new")
    newer.decide("both", None)
    for known in (store, newer):
        names = ["nobody", "waits", "both", "answer", "both"]
        one_by_one = [(known.verdict(name), known.answer(name)) for name in names]
        assert known.look_up(names) == one_by_one
    assert newer.look_up(["waits", "both"]) == [
        (parked(77), Answer(9, 1002, b"new")),
        (None, Answer(7, 1000, b"x")),
    ]


def test_every_one_of_thousands_written_together_expires_at_its_own_time(store: LabelStore) -> None:
    changes = Changes(store)
    # Out of order, so that no list of them is due as a whole.
    changes.answers = {f"r{n}": Answer(n, n * 7919 % 2500, b"") for n in range(2500)}
    for n in range(2500):
        changes.decide(f"r{n}", learned(appended=n * 7919 % 2500))
    store.write(changes, HERE)
    left = 2500
    for before in (0, 1, 700, 701, 2499, 2600):
        expected = left - max(0, 2500 - before)
        assert store.expire(before, 10_000) == expected
        left -= expected
        kept = [n for n in range(2500) if store.answer(f"r{n}") is not None]
        assert kept == [n for n in range(2500) if n * 7919 % 2500 >= before]
        assert kept == [n for n in range(2500) if store.verdict(f"r{n}") is not None]
    assert store.expire(2**40, 10_000) == 0


def test_a_label_parked_and_learned_within_one_flush_was_never_parked(store: LabelStore) -> None:
    changes = Changes(store)
    changes.decide("r", parked(10))
    changes.decide("r", learned(appended=10))
    store.write(changes, HERE)
    assert store.parked_count() == 0
    changes = Changes(store)
    changes.decide("r", parked(20))
    changes.decide("r", parked(30))
    store.write(changes, HERE)
    assert store.parked(2**40, 10) == [("r", parked(30))]
    changes = Changes(store)
    changes.decide("r", learned(appended=30))
    changes.decide("r", parked(40))
    changes.decide("r", None)
    store.write(changes, HERE)
    assert (store.parked_count(), store.parked(2**40, 10)) == (0, [])


def test_clear_forgets_everything(store: LabelStore) -> None:
    changes = Changes(store)
    changes.answers["r"] = Answer(1, 1, b"")
    changes.decide("p", parked(1))
    store.write(changes, HERE)
    store.clear()
    assert store.position() is None
    assert store.answer("r") is None
    assert store.parked_count() == 0
    store.write(Changes(store), HERE)
    assert store.position() == HERE


def test_survives_its_process(tmp_path: Path) -> None:
    code = """
import sys, os
from pathlib import Path
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.records import Answer, Verdict
from stream_ensemble.stores.labels import Position
from stream_ensemble.stores.rocks_labels import open_label_store
store = open_label_store(Path(sys.argv[1]))
changes = Changes(store)
changes.answers["r"] = Answer(1, 2, b"value")
changes.decide("p", Verdict(False, "dog", 0, 1.0, 4, ("feedback", 0, 8, 0), record=b"v"))
store.write(changes, Position("me", 1, 2, 3))
os.kill(os.getpid(), 9)
"""
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False)
    assert died.returncode == -9
    store = open_label_store(tmp_path)
    assert store.position() == Position("me", 1, 2, 3)
    assert store.answer("r") == Answer(1, 2, b"value")
    assert store.parked_count() == 1
    store.close()


def test_a_directory_that_is_held_is_left_to_its_holder(tmp_path: Path) -> None:
    first = open_label_store(tmp_path)
    first.write(Changes(first), HERE)
    with pytest.raises(StateError, match="held by another process"):
        RocksLabelStore(tmp_path / "0")
    second = open_label_store(tmp_path)
    assert second.position() is None
    first.close()
    second.close()


def test_what_an_older_version_listed_name_by_name_expires_as_well(tmp_path: Path) -> None:
    store = RocksLabelStore(tmp_path / "0")
    old = {
        b"ar": (7).to_bytes(8, "big") + (50).to_bytes(8, "big"),
        b"A" + (50).to_bytes(8, "big") + b"r": b"",
    }
    for key, value in old.items():
        store._db.put(key, value)
    assert store.answer("r") == Answer(7, 50, b"")
    assert (store.expire(50, 10), store.expire(51, 10)) == (0, 1)
    assert store.answer("r") is None
    store.close()


def test_a_damaged_store_is_begun_anew(tmp_path: Path) -> None:
    store = RocksLabelStore(tmp_path / "0")
    store.write(Changes(store), HERE)
    store.close()
    (tmp_path / "0" / "CURRENT").write_bytes(b"nonsense\n")
    store = RocksLabelStore(tmp_path / "0")
    assert store.position() is None
    store.close()

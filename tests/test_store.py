import dataclasses
import json
import logging
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from descriptions import MistakeError
from orchestrator.result import Epoch, Result
from orchestrator.store import SCHEMA, Store, curves_frame, frame, open_study, stored_studies


def result(key: str = "a" * 64, **changed: object) -> Result:
    whole = Result(
        key=key,
        study="s",
        arm="baseline",
        task="digits",
        seed=0,
        baseline=True,
        status="ok",
        metric="accuracy",
        higher_is_better=True,
        chance=0.1,
        validation=0.5,
        test=0.25,
        best_epoch=2,
        epochs=2,
        steps=10,
        parameters=100,
        seconds=1.5,
        levels={"model.depth": "2"},
        description={"model": {"depth": 2}},
        packages={"torch": "2"},
        code="c",
        finished_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    )
    return dataclasses.replace(whole, **changed)  # type: ignore[arg-type]


def curve(length: int = 2) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(epoch=e, step=5 * e, train_loss=1 / e, validation_loss=0.1, validation=0.5, lr=0.1, seconds=float(e))
        for e in range(1, length + 1)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", "s")
    made.open_for_writing()
    return made


def test_the_schema_has_a_column_for_each_field_of_a_result_in_order():
    assert SCHEMA.names == [f.name for f in dataclasses.fields(Result)]


def test_what_is_written_is_read_back(store):
    diverged = result("b" * 64, status="diverged", reason="why", test=None, validation=None, best_epoch=None)
    store.write(result(), curve())
    store.write(diverged, ())
    assert store.results() == [result(), diverged]
    assert store.curves() == {"a" * 64: curve()}


def test_a_trial_that_is_written_again_replaces_itself(store):
    store.write(result(status="failed", test=None), ())
    store.write(result(), curve())
    assert store.results() == [result()]


def test_storing_a_trial_removes_its_checkpoint(store):
    store.checkpoint("a" * 64).write_bytes(b"weights")
    store.write(result(), ())
    assert not store.checkpoint("a" * 64).exists()


def test_compacting_changes_no_row_and_can_be_repeated(store):
    rows = [result(c * 64, seed=i) for i, c in enumerate("abc")]
    for row in rows[:2]:
        store.write(row, curve())
    store.compact()
    store.write(rows[2], curve(3))
    store.write(dataclasses.replace(rows[0], arm="renamed"), curve())
    expected = [dataclasses.replace(rows[0], arm="renamed"), *rows[1:]]
    assert store.results() == expected
    store.compact()
    assert store.results() == expected
    assert len(store.curves()["c" * 64]) == 3
    assert list((store.folder / "trials").iterdir()) == []


def test_a_crash_while_compacting_leaves_every_row_once(store, monkeypatch):
    for c in "ab":
        store.write(result(c * 64), curve())
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.compact()
    monkeypatch.undo()
    assert [row.key for row in store.results()] == ["a" * 64, "b" * 64]
    assert {key: len(points) for key, points in store.curves().items()} == {"a" * 64: 2, "b" * 64: 2}


@pytest.mark.parametrize("left", [0, 1, 100, 2000])
def test_a_truncated_file_is_named_and_set_aside(store, caplog, left):
    store.write(result(), ())
    store.write(result("b" * 64), ())
    file = store.folder / "trials" / f"{'a' * 64}.parquet"
    file.write_bytes(file.read_bytes()[:left])
    with caplog.at_level(logging.WARNING):
        assert [row.key for row in store.results()] == ["b" * 64]
    assert file.name in caplog.text
    assert not file.exists()
    assert file.with_name(file.name + ".broken").exists()
    caplog.clear()
    assert len(store.results()) == 1
    assert caplog.text == ""


def test_a_write_that_is_killed_leaves_nothing_that_reads_as_a_row(store, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.write(result(), curve())
    monkeypatch.undo()
    assert store.results() == []


def test_another_format_is_refused_by_name(store):
    (store.root / "format.json").write_text(json.dumps({"format": 99}))
    for use in (store.open_for_writing, lambda: open_study(store.root, "s")):
        with pytest.raises(MistakeError, match="has format 99, and this version reads format 1"):
            use()


def test_a_file_of_another_format_is_refused_by_name(store):
    pd.DataFrame({"key": ["x"]}).to_parquet(store.folder / "trials" / "x.parquet")
    with pytest.raises(MistakeError, match=r"x\.parquet' has format none"):
        store.results()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(MistakeError, match="cannot be written: Permission denied"):
        Store(tmp_path / "results", "s").open_for_writing()


def test_a_results_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "results").write_text("not a folder")
    with pytest.raises(MistakeError, match="cannot be written"):
        Store(tmp_path / "results", "s").open_for_writing()


def test_a_study_without_results_names_those_that_there_are(store):
    with pytest.raises(MistakeError, match=r"no results of 't' in .*: it holds s"):
        open_study(store.root, "t")
    assert stored_studies(store.root) == ["s"]


def test_the_frame_has_one_typed_row_a_trial_and_a_column_an_axis():
    table = frame([result(), result("b" * 64, arm="x", levels={}, test=None, best_epoch=None, status="failed")])
    assert list(table.columns) == [*SCHEMA.names, "model.depth"]
    assert table["model.depth"].tolist()[0] == "2"
    assert pd.isna(table["model.depth"][1])
    assert str(table["test"].dtype) == "float64"
    assert str(table["best_epoch"].dtype) == "Int64"
    assert frame([]).empty
    assert list(curves_frame({"k": curve()}).columns)[:3] == ["key", "epoch", "step"]


def test_plain_pandas_reads_the_record(store):
    store.write(result(), curve())
    store.compact()
    table = pd.read_parquet(store.folder / "trials.parquet")
    assert table["test"].tolist() == [0.25]
    assert json.loads(table["levels"][0]) == {"model.depth": "2"}

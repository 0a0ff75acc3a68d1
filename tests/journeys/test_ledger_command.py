"""``edge-agent ledger`` as a person and a program read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.commands import ledger
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Batch, Count, SetAside, Trim
from tests.simulators.agent_toml import MODEL, belt, head, inspect, machine
from tests.simulators.command_line import edge_agent
from tests.simulators.outbox_records import STARTED_NS, StillClock, acknowledge, alarm, prediction, put, rollout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    outbox = '[outbox]\npath = "state/outbox.sqlite"\n'
    path.write_text(head(1883) + belt() + machine() + inspect() + MODEL + outbox)
    return path


@pytest.fixture
def store(tmp_path: Path) -> SqliteOutbox:
    """Two runs: one that stopped, one that goes on."""
    outbox = SqliteOutbox(tmp_path / "state" / "outbox.sqlite", StillClock())
    outbox.open("aaaaaaaa-1111")
    made = [prediction(n, "aaaaaaaa-1111") for n in range(6)]
    outbox.commit(put(*made, alarm(6, "aaaaaaaa-1111"), rollout(7, b"committed", "aaaaaaaa-1111")))
    outbox.commit(acknowledge(*made[:2]))
    outbox.commit(Batch(trim=Trim(-1, 0, STARTED_NS + 4 * 10**9), clean=True))
    outbox.close()
    outbox.open("bbbbbbbb-2222")
    refused = prediction(0, "bbbbbbbb-2222")
    counts = {("bbbbbbbb-2222", "prediction/inspect"): Count(produced=1, discarded={"refused": 1})}
    outbox.commit(Batch(counts=counts, aside=[SetAside(refused.record, refused.stamp, "too large")]))
    return outbox


def test_a_person_reads_what_became_of_each_run(
    config: Path, store: SqliteOutbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ledger.main(["--config", str(config)]) == 0
    file, waiting, *runs = capsys.readouterr().out.splitlines()
    assert file.startswith(f"{config.parent}/state/outbox.sqlite: 0.")
    assert waiting.startswith("2 records wait for the broker, 0.0 MiB")
    assert runs == [
        "",
        "run bbbbbbbb  started 2026-09-21T14:13:20.000Z, as of 2026-09-21T14:13:20.000Z, "
        "running, or ended without a clean stop",
        "                      produced  acknowledged  stored  discarded",
        "  prediction/inspect         1             0       0  1 refused  adds up",
        "",
        "run aaaaaaaa  started 2026-09-21T14:13:20.000Z, as of 2026-09-21T14:13:20.000Z, stopped cleanly",
        "                      produced  acknowledged  stored  discarded",
        "  event                      1             0       1  0                         adds up",
        "  prediction/inspect         6             2       0  2 expired, 2 outbox_full  adds up",
        "",
        "refused by the broker for good, the newest first:",
        "  2026-09-21T14:13:20.000Z  edge-agent/line1/prediction/inspect  9 bytes: too large",
    ]


def test_a_program_reads_the_same(tmp_path: Path, config: Path, store: SqliteOutbox) -> None:
    done = edge_agent(tmp_path, "ledger", "--config", config, "--json")  # beside the process that holds the file
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    newest, oldest = answer.pop("runs")
    file = tmp_path / "state" / "outbox.sqlite"
    assert answer == {
        "schema": "edge-agent/ledger/1",
        "path": str(file),
        "records": 2,
        "bytes": alarm(6).record.size + rollout(7, b"committed").record.size,
        "file_bytes": file.stat().st_size + file.with_name(file.name + "-wal").stat().st_size,
        "refused": [
            {
                "topic": "edge-agent/line1/prediction/inspect",
                "reason": "too large",
                "time": "2026-09-21T14:13:20.000Z",
                "size": 9,
            }
        ],
    }
    assert (newest["boot_id"], newest["clean"], newest["adds_up"]) == ("bbbbbbbb-2222", False, True)
    assert oldest == {
        "boot_id": "aaaaaaaa-1111",
        "started": "2026-09-21T14:13:20.000Z",
        "checkpoint": "2026-09-21T14:13:20.000Z",
        "clock_synced": True,
        "clean": True,
        "streams": {
            "event": {"produced": 1, "acknowledged": 0, "stored": 1, "discarded": {}},
            "prediction/inspect": {
                "produced": 6,
                "acknowledged": 2,
                "stored": 0,
                "discarded": {"expired": 2, "outbox_full": 2},
            },
        },
        "adds_up": True,
    }


@pytest.mark.parametrize(("count", "said"), [(Count(produced=3), "3 missing"), (Count(acknowledged=2), "2 too many")])
def test_a_row_that_does_not_add_up_is_said_and_is_a_bad_result(
    config: Path, store: SqliteOutbox, capsys: pytest.CaptureFixture[str], count: Count, said: str
) -> None:
    store.commit(Batch(counts={("bbbbbbbb-2222", "event"): count}))
    assert ledger.main(["--config", str(config)]) == 1
    assert f"does not add up: {said}" in capsys.readouterr().out
    assert ledger.main(["--config", str(config), "--json"]) == 1


def test_a_run_whose_own_file_was_put_aside_has_no_times(
    config: Path, store: SqliteOutbox, capsys: pytest.CaptureFixture[str]
) -> None:
    store.commit(put(prediction(-9, "cccccccc-3333")))
    assert ledger.main(["--config", str(config)]) == 0
    assert "run cccccccc  started not known, as of not known" in capsys.readouterr().out


def test_where_no_file_is_that_is_a_matter_of_configuration(tmp_path: Path, config: Path) -> None:
    done = edge_agent(tmp_path, "ledger", "--config", config)
    assert done.returncode == 2
    assert f"{config.parent}/state/outbox.sqlite: no outbox there" in done.stderr

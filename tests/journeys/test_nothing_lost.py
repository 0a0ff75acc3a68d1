"""The fault campaign: whatever happens to the broker, the way to it, the disk or the daemon itself, each prediction
arrives, or is stored, or is counted under the reason for which it was given up."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.fleet.collector_process import CollectorProcess
from tests.simulators.agent_toml import DEVICE, MODEL, belt, camera, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.disk import SmallDisk
from tests.simulators.ledger import Ledger, check_order, once_each, seqs_by_run
from tests.simulators.link import Cable, Link
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.service_manager import ServiceManager
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

FPS = 20
FAST_FPS = 100
REST = machine("media") + inspect() + MODEL
LINE = belt(FPS) + REST
FAST_LINE = belt(FAST_FPS) + REST
EVERY = '[outbox]\ndurability = "every"\n'
NOTICING = 'keepalive = "1s"'  # so that a silent broker is noticed soon
# mosquitto drops what its subscribers are too slow for
KEEPS_ALL = "max_queued_messages 1000000\nmax_inflight_messages 0\n"
STOP_S = 5
NOISE_S = 3  # a busy machine's, over what is promised
LOST_MOST_S = 5.0  # durability "batch"
GAPS = (sys.executable, "-m", "fleet", "gaps", "--db")
StartDaemon = Callable[..., Daemon]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path / "broker", KEEPS_ALL)
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """Hears the status line, which tells how much waits while no broker could."""
    with ServiceManager(tmp_path) as service_manager:
        yield service_manager


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "state" / "edge-agent" / DEVICE / "outbox.sqlite"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "state", "2m") as disk:
        yield disk


def wait_backlog(manager: ServiceManager, count: int) -> None:
    """Until from now on so many messages wait."""
    said = len(manager.waiting())
    wait_for(lambda: max(manager.waiting()[said:], default=0) >= count, f"{count} messages wait for the broker")


def wait_more(subscriber: Subscriber, count: int) -> None:
    subscriber.wait_predictions(len(subscriber.predictions()) + count)


def check_whole(subscriber: Subscriber, ledger: Ledger) -> None:
    """After a clean stop: of each run everything arrived, but for what waits in the file for the next start."""
    ledger.check()
    arrived = {boot_id: set(seqs) for boot_id, seqs in seqs_by_run(subscriber.predictions()).items()}
    for row in ledger.rows:
        if not row.stream.startswith("prediction/"):
            continue
        seqs = arrived.get(row.boot_id, set())
        assert seqs | ledger.stored[row.boot_id] == set(range(row.produced)), row
        assert not row.discarded, row


def stop_and_check(process: Daemon, subscriber: Subscriber, outbox: Path) -> Ledger:
    """A clean stop with the broker there: nothing is left, nothing was lost."""
    assert process.stop() == 0, process.log
    assert "Traceback" not in process.log
    ledger = Ledger(outbox)
    last = ledger.boot_ids[-1]
    wait_for(
        lambda: len(set(seqs_by_run(subscriber.predictions())[last])) >= ledger.predictions(last).acknowledged,
        "what the broker acknowledged",
    )
    check_whole(subscriber, ledger)
    assert ledger.predictions(last).clean
    assert not ledger.predictions(last).stored
    return ledger


# --- the broker and the way to it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", [pytest.param("batch", marks=pytest.mark.soak), "every"])
def test_a_broker_that_is_killed_again_and_again_costs_nothing(
    tmp_path: Path,
    durability: str,
    broker: Mosquitto,
    subscriber: Subscriber,
    daemon: StartDaemon,
    manager: ServiceManager,
    outbox: Path,
) -> None:
    collector = CollectorProcess(tmp_path / "collected.sqlite", broker.port, "--quiet").connected()
    text = head(broker.port) + LINE + f'[outbox]\ndurability = "{durability}"\n'
    process = daemon(text, **manager.environment())
    wait_more(subscriber, FPS)
    for connections in (2, 3, 4):
        broker.kill()
        wait_backlog(manager, FPS)
        broker.start()
        wait_more(subscriber, 2 * FPS)
        # mosquitto acknowledges before it writes down what it keeps for those who are away, or behind: the next kill
        # would lose it
        wait_for(lambda count=connections: collector.said().count("connected to") == count, "the collector is back")
        seen = len(once_each(subscriber.predictions()))
        wait_for(lambda count=seen: received(collector, "prediction/inspect", count), "the collector has caught up")
    ledger = stop_and_check(process, subscriber, outbox)
    check_order(subscriber.predictions())
    produced = ledger.predictions(ledger.boot_ids[-1]).produced
    stats = subscriber.last("/stats")
    assert stats is not None
    assert stats["ledger"]["prediction/inspect"]["acknowledged"] == produced
    try:
        wait_for(lambda: received(collector, "prediction/inspect", produced), "all of it at the collector")
    finally:
        assert collector.stop() == 0, collector.said()
    gaps = subprocess.run([*GAPS, str(collector.database)], capture_output=True, text=True, check=False)
    assert gaps.returncode == 0, gaps.stdout


def received(collector: CollectorProcess, stream: str, count: int) -> bool:
    """Whether the collector has at least so many of a stream."""
    answer = subprocess.run([*GAPS, str(collector.database), "--json"], capture_output=True, text=True, check=False)
    return any(item["received"] >= count for item in json.loads(answer.stdout)["streams"] if item["stream"] == stream)


def test_a_cable_that_carries_nothing_in_one_direction_or_both_costs_nothing(
    tmp_path: Path, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    with Cable() as cable:
        broker = Mosquitto(tmp_path / "broker", KEEPS_ALL)
        with (tmp_path / "broker" / "mosquitto.conf").open("a") as configuration:
            configuration.write(f"listener {broker.port} {cable.address}\n")
        broker.start()
        subscriber = Subscriber(broker.port)
        text = head(broker.port, f'host = "{cable.address}"', "insecure = true", NOTICING) + LINE
        with cable.at_the_far_end():
            process = daemon(text, **manager.environment())
        wait_more(subscriber, FPS)
        for faults in ((), ("up",), ("down",)):
            cable.cut(*faults)
            wait_backlog(manager, FPS)
            cable.mend()
            wait_more(subscriber, 2 * FPS)
        stop_and_check(process, subscriber, outbox)
        subscriber.close()
        broker.stop()


def test_connections_that_break_or_stay_open_and_carry_nothing_cost_nothing(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    with Link(broker.port) as link:
        process = daemon(head(link.port, NOTICING) + LINE, **manager.environment())
        wait_more(subscriber, FPS)
        for faults in (("up", "down"), ("down",)):
            link.hold(*faults)
            wait_backlog(manager, FPS)
            link.pass_on()
            wait_more(subscriber, 2 * FPS)
        link.cut()
        wait_more(subscriber, FPS)
        link.refuse()
        wait_backlog(manager, FPS)
        link.accept()
        wait_more(subscriber, 2 * FPS)
        stop_and_check(process, subscriber, outbox)


def test_a_broker_that_refuses_the_daemon_gets_everything_once_it_is_allowed(
    tmp_path: Path, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    broker = Mosquitto(tmp_path / "broker", KEEPS_ALL + "clientid_prefixes stranger\n")
    broker.start()
    subscriber = Subscriber(broker.port)
    process = daemon(head(broker.port) + LINE, **manager.environment())
    wait_backlog(manager, 2 * FPS)
    assert not subscriber.predictions()
    broker.stop()
    configuration = tmp_path / "broker" / "mosquitto.conf"
    configuration.write_text(configuration.read_text().replace("clientid_prefixes stranger\n", ""))
    broker.start()
    wait_more(subscriber, 3 * FPS)
    stop_and_check(process, subscriber, outbox)
    subscriber.close()
    broker.stop()


def test_a_slow_broker_gets_everything_in_order(
    tmp_path: Path, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    broker = Mosquitto(tmp_path / "broker", "max_queued_messages 1000000\n")  # 20 in flight
    broker.start()
    subscriber = Subscriber(broker.port)
    with Link(broker.port) as link:
        link.answer_delay_s = 0.3
        as_a_camera = belt(FAST_FPS, 'drop = "newest"')
        process = daemon(head(link.port) + as_a_camera + REST, **manager.environment())
        wait_backlog(manager, FAST_FPS)
        link.answer_delay_s = 0.0
        seen = len(subscriber.predictions())
        wait_for(lambda: manager.waiting()[-1] == 0, "nothing waits any more")
        subscriber.wait_predictions(seen + FAST_FPS)
        stop_and_check(process, subscriber, outbox)
    subscriber.close()
    broker.stop()
    check_order(subscriber.predictions())


# --- the disk --------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_then_well_costs_nothing_while_the_broker_is_there(
    small_disk: SmallDisk, broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, outbox: Path
) -> None:
    process = daemon(head(broker.port) + LINE + EVERY)
    wait_more(subscriber, FPS)
    small_disk.fill()
    wait_for(lambda: subscriber.events("outbox_degraded"), "the event of a full disk")
    wait_more(subscriber, FPS)
    assert not subscriber.events("outbox_restored")
    small_disk.make_room()
    wait_for(lambda: subscriber.events("outbox_restored"), "the event of a disk that is well again")
    wait_more(subscriber, FPS)
    assert len(subscriber.events("outbox_degraded")) == 1
    stop_and_check(process, subscriber, outbox)


def test_a_disk_that_is_full_while_the_broker_is_away_keeps_what_it_has_and_the_memory_the_rest(
    small_disk: SmallDisk,
    broker: Mosquitto,
    subscriber: Subscriber,
    daemon: StartDaemon,
    manager: ServiceManager,
    outbox: Path,
) -> None:
    process = daemon(head(broker.port) + LINE + EVERY, **manager.environment())
    wait_more(subscriber, FPS)
    broker.stop()
    wait_backlog(manager, FPS)
    small_disk.fill()
    wait_for(lambda: "outbox_degraded" in process.log, "the disk is full")
    wait_backlog(manager, 3 * FPS)
    broker.start()
    wait_more(subscriber, 4 * FPS)
    small_disk.make_room()
    wait_for(lambda: subscriber.events("outbox_restored"), "the event of a disk that is well again")
    stop_and_check(process, subscriber, outbox)


def test_a_daemon_that_starts_on_a_read_only_disk_works_and_uses_it_once_it_can(
    small_disk: SmallDisk, broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, outbox: Path
) -> None:
    small_disk.read_only()
    process = daemon(head(broker.port) + LINE + EVERY)
    wait_more(subscriber, FPS)
    assert subscriber.events("outbox_degraded")
    small_disk.writable()
    wait_for(lambda: subscriber.events("outbox_restored"), "the event of a disk that is well again")
    wait_more(subscriber, FPS)
    stop_and_check(process, subscriber, outbox)


def test_a_damaged_file_is_put_aside_and_the_daemon_works_with_a_new_one(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    broker.stop()
    process = daemon(head(broker.port) + LINE + EVERY, **manager.environment())
    wait_backlog(manager, FPS)
    assert process.stop() == 0, process.log
    lost = Ledger(outbox).check().boot_ids[-1]
    content = bytearray(outbox.read_bytes())
    content[:64] = b"\xa5" * 64
    outbox.write_bytes(content)
    broker.start()
    process = daemon(head(broker.port) + LINE + EVERY)
    wait_for(lambda: subscriber.events("outbox_damaged"), "the event of a damaged file")
    (aside,) = outbox.parent.glob("outbox.damaged-*.sqlite")
    assert str(aside) in subscriber.events("outbox_damaged")[0]["detail"]
    assert aside.read_bytes() == content
    wait_more(subscriber, FPS)
    stop_and_check(process, subscriber, outbox)
    assert lost not in seqs_by_run(subscriber.predictions())


# --- the end of the process ------------------------------------------------------------------------------------------


def away(broker: Mosquitto) -> Callable[[], None]:
    """Returns what brings it back."""
    broker.stop()
    return broker.start


def frozen(broker: Mosquitto) -> Callable[[], None]:
    broker.freeze()
    return broker.thaw


@pytest.mark.parametrize("fault", [away, frozen])
def test_a_stop_without_a_broker_ends_in_time_and_its_predictions_come_with_the_next_start(
    fault: Callable[[Mosquitto], Callable[[], None]],
    broker: Mosquitto,
    subscriber: Subscriber,
    daemon: StartDaemon,
    manager: ServiceManager,
    outbox: Path,
) -> None:
    process = daemon(head(broker.port) + FAST_LINE, **manager.environment())
    wait_more(subscriber, FPS)
    bring_back = fault(broker)
    wait_backlog(manager, FPS)
    stop_in_time(process)
    ledger = Ledger(outbox)
    check_whole(subscriber, ledger)
    (earlier,) = ledger.boot_ids
    assert ledger.predictions(earlier).clean
    assert len(ledger.stored[earlier]) >= FPS - 1
    bring_back()
    check_next_start(daemon(head(broker.port) + LINE), subscriber, ledger)
    times = {item["seq"]: item["time"] for item in subscriber.predictions() if item["boot_id"] == earlier}
    in_order = [times[seq] for seq in sorted(times)]
    assert in_order == sorted(in_order)
    assert Ledger(outbox).boot_ids[0] == earlier


def stop_in_time(process: Daemon) -> None:
    process.process.send_signal(signal.SIGTERM)
    assert process.wait_exit(STOP_S + NOISE_S) == 0, process.log
    assert "Traceback" not in process.log


def check_next_start(process: Daemon, subscriber: Subscriber, ledger: Ledger) -> None:
    """What the ledger says is stored comes now, as it was made; then a clean stop."""
    wanted = {(boot_id, seq) for boot_id, seqs in ledger.stored.items() for seq in seqs}

    def came() -> bool:
        arrived = {(item["boot_id"], item["seq"]) for item in subscriber.predictions() if item["buffered"]}
        return wanted <= arrived

    wait_for(came, "the predictions of earlier runs, flagged as buffered")
    earlier = set(ledger.boot_ids)
    wait_for(lambda: set(seqs_by_run(subscriber.predictions())) - earlier, "the first prediction of this run")
    stop_and_check(process, subscriber, ledger.path)


def test_a_stop_on_a_link_that_carries_nothing_ends_in_time_and_loses_nothing(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    with Link(broker.port) as link:
        process = daemon(head(link.port) + FAST_LINE, **manager.environment())
        wait_more(subscriber, FPS)
        link.hold("down")
        wait_backlog(manager, FPS)
        stop_in_time(process)
        ledger = Ledger(outbox)
        check_whole(subscriber, ledger)
        assert ledger.stored[ledger.boot_ids[0]]
        link.pass_on()
        check_next_start(daemon(head(link.port) + LINE), subscriber, ledger)


def test_a_stop_while_another_program_holds_the_outbox_ends_in_time_and_keeps_what_was_stored(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    broker.stop()
    process = daemon(head(broker.port) + LINE + EVERY, **manager.environment())
    wait_backlog(manager, FPS)
    writer = sqlite3.connect(outbox, isolation_level=None, timeout=10)
    writer.execute("BEGIN IMMEDIATE")
    stop_in_time(process)
    writer.execute("ROLLBACK")
    writer.close()
    ledger = Ledger(outbox).check()
    assert len(ledger.stored[ledger.boot_ids[0]]) >= FPS - 1
    broker.start()
    check_next_start(daemon(head(broker.port) + LINE + EVERY), subscriber, ledger)


@pytest.mark.soak
def test_a_stop_with_a_camera_that_hangs_and_no_broker_ends_in_time_and_loses_nothing(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, manager: ServiceManager, outbox: Path
) -> None:
    with MjpegServer() as server:
        web = camera("web", server.url, 'timeout = "60s"') + machine() + inspect("inspect", "web") + MODEL
        process = daemon(head(broker.port) + web, **manager.environment())
        wait_more(subscriber, FPS)
        broker.stop()
        wait_backlog(manager, FPS)
        server.mode = "stall"
        stop_in_time(process)
        ledger = Ledger(outbox)
        check_whole(subscriber, ledger)
        server.mode = "ok"
        broker.start()
        check_next_start(daemon(head(broker.port) + web), subscriber, ledger)


@pytest.mark.parametrize(
    ("durability", "kills", "life_s"),
    [
        ("every", 10, (0.0, 1.5)),
        ("batch", 1, (5.5, 6.5)),
        pytest.param("every", 50, (0.0, 6.0), marks=pytest.mark.soak),
        pytest.param("batch", 20, (0.0, 15.0), marks=pytest.mark.soak),
    ],
)
def test_a_daemon_that_is_killed_at_random_moments_loses_nothing_that_it_should_keep(
    durability: str,
    kills: int,
    life_s: tuple[float, float],
    broker: Mosquitto,
    subscriber: Subscriber,
    daemon: StartDaemon,
    outbox: Path,
) -> None:
    chance = random.Random(f"{durability} {kills}")
    text = head(broker.port) + LINE + f'[outbox]\ndurability = "{durability}"\n'
    stored: set[tuple[str, int]] = set()
    lives: dict[str, tuple[float, float]] = {}  # boot_id -> ready and dead, by the wall clock
    up = True
    for _ in range(kills):
        if chance.random() < 0.5:
            (broker.stop if up else broker.start)()
            up = not up
        process = daemon(text)
        process.wait_ready()
        ready = time.time()
        if up and chance.random() < 0.3:
            broker.stop()
            up = False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait_exit(chance.uniform(*life_s))
        process.kill()
        assert "Traceback" not in process.log
        ledger = Ledger(outbox).check()
        lives[process.log.partition(", boot ")[2].split()[0]] = ready, time.time()
        stored |= {(boot_id, seq) for boot_id, seqs in ledger.stored.items() for seq in seqs}
    if not up:
        broker.start()
    process = daemon(text)
    wait_for(lambda: stored <= identities(subscriber), "all that was ever stored")
    wait_more(subscriber, FPS)
    ledger = stop_and_check_after_kills(process, subscriber, outbox)
    for boot_id, seqs in seqs_by_run(subscriber.predictions()).items():
        rows = [row for row in ledger.rows if row.boot_id == boot_id and row.stream == "prediction/inspect"]
        produced = rows[0].produced if rows else 0
        assert set(range(produced)) <= set(seqs)
        if durability == "every":  # nothing was published that was not stored before
            assert sorted(seqs) == list(range(produced))
    if durability == "batch":
        check_tails(subscriber, lives)


def identities(subscriber: Subscriber) -> set[tuple[str, int]]:
    return {(item["boot_id"], item["seq"]) for item in subscriber.predictions()}


def stop_and_check_after_kills(process: Daemon, subscriber: Subscriber, outbox: Path) -> Ledger:
    assert process.stop() == 0, process.log
    ledger = Ledger(outbox).check()
    assert not [row for row in ledger.rows if row.stored or row.discarded], ledger.rows
    last = ledger.predictions(ledger.boot_ids[-1])
    wait_for(lambda: len(seqs_by_run(subscriber.predictions())[last.boot_id]) >= last.produced, "the last predictions")
    return ledger


def check_tails(subscriber: Subscriber, lives: dict[str, tuple[float, float]]) -> None:
    """Of a run that was killed everything came that it had made LOST_MOST_S before."""
    by_run: dict[str, dict[int, str]] = {}
    for item in once_each(subscriber.predictions()):
        by_run.setdefault(item["boot_id"], {})[item["seq"]] = item["time"]
    for boot_id, (ready, death) in lives.items():
        times = by_run.get(boot_id, {})
        first_missing = next(seq for seq in range(len(times) + 1) if seq not in times)
        last = seconds(times[first_missing - 1]) if first_missing else ready
        assert death - last < LOST_MOST_S, (boot_id, first_missing)


def seconds(time_text: str) -> float:
    """Since 1970, of a payload's ``time``."""
    return datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp()


# --- two where there should be one -----------------------------------------------------------------------------------


def test_two_daemons_with_one_client_id_say_so(broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon) -> None:
    one = head(broker.port, 'client_id = "same"') + LINE
    processes = [daemon(one), daemon(one.replace(DEVICE, "line2"))]
    wait_for(lambda: any("client_id_taken" in process.log for process in processes), "that the client id is taken")
    for process in processes:
        process.kill()


def test_two_daemons_with_one_outbox_say_so_and_both_go_on(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, outbox: Path
) -> None:
    first = daemon(head(broker.port) + LINE)
    wait_more(subscriber, FPS)
    second = daemon(head(broker.port, 'client_id = "second"') + LINE)
    wait_for(lambda: subscriber.events("outbox_degraded"), "the event of an outbox in use")
    assert f"pid {first.process.pid}" in subscriber.events("outbox_degraded")[0]["detail"]
    wait_for(lambda: len(seqs_by_run(subscriber.predictions())) == 2, "both publish")
    wait_more(subscriber, FPS)
    assert second.stop() == 0, second.log
    boot_id = Ledger(outbox).boot_ids
    stop_and_check(first, subscriber, outbox)
    assert len(boot_id) == 1

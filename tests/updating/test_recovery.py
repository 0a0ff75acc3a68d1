"""An updater that fails on something that nobody expected goes on from what was saved, and no frame is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent import limits
from edge_agent.updating.make import make_updater
from edge_agent.updating.start import UpdateStart
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.ota_site import NAME, OtaSite
from tests.simulators.supervised import Site
from tests.simulators.updating_parts import updating_parts
from tests.simulators.waiting import wait_for

ON_THE_WAY = ("Report", "Check", "Fetch", "Verify", "Shadow", "Unshadow", "Swap", "Tell", "Settle")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OtaSite]:
    path = tmp_path / "agent.toml"

    def start(configuration: str) -> Daemon:
        path.write_text(configuration)
        program = ("-m", "tests.simulators.stumbling_daemon", str(path), *ON_THE_WAY, "SwapBack")
        return Daemon(path, {}, program)

    site = OtaSite(tmp_path, start, fps=10)
    yield site
    site.close()


def test_an_updater_that_stumbles_over_each_action_arrives_all_the_same_and_goes_back_when_asked(
    site: OtaSite, tmp_path: Path
) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), shadow_s=0.5)

    def ended() -> bool:
        site.ring()  # what begins anew would look by itself, within half a minute
        return (site.status()["last"] or {}).get("rollout") == rollout.id

    wait_for(ended, "the end of the rollout")
    assert site.status()["last"]["state"] == "committed", site.daemon.log
    site.wait_version("2.0.0")
    assert site.current() == "2.0.0"

    edge_agent(tmp_path, "models", "rollback", NAME, "--config", tmp_path / "agent.toml")
    site.wait_version("1.1.0")
    assert site.current() == "factory"
    assert site.status()["last"]["reason"] == "operator"

    assert site.daemon.stop() == 0, site.daemon.log
    assert site.subscriber.payloads("/stats")[-1]["crashes"] == {"updater": len(ON_THE_WAY) + 1}
    assert set(site.stats()["discards"]) <= {"shutdown"}


def test_what_was_held_before_the_failure_stays_held(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.01)
    supervised, parts = Site(), updating_parts(example)
    start = UpdateStart(parts.loaded)
    updater = make_updater(parts, start, "cam", lambda: None, supervised.services)

    def held_until() -> str | None:
        (record,) = updater.greeting()
        said: str | None = msgspec.json.decode(record.body)["held_until"]
        return said

    for worker in (updater.errands, updater):
        worker.start()
    updater.hold(b'{"for": "2h"}')
    before, machine = wait_for(held_until, "it is held"), updater._machine

    def fail(*_: object) -> None:
        raise OSError("nobody expected this")

    monkeypatch.setattr(machine, "handle", fail)
    wait_for(lambda: updater._machine is not machine, "it begins anew")
    assert wait_for(held_until, "it is held again") == before
    assert [event.kind for event in supervised.events] == ["worker_failed"]
    supervised.stopping.set()
    updater.wake()
    for worker in (updater, updater.errands):
        worker.join(20.0)
    assert not supervised.deaths

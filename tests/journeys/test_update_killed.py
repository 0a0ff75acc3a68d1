"""The daemon dies at once (SIGKILL), wherever its update is: the next start goes on, and ends where it was to end."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge_agent.core.boot import STARTS_MOST
from edge_agent.rollouts import Release
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.ota_site import LONG_S, NAME, OtaSite
from tests.simulators.update_server import UpdateServer
from tests.simulators.waiting import wait_for
from tests.simulators.web_server import Request

FOR_EVER_S = 3600.0


@pytest.fixture
def site(tmp_path: Path, daemon: Callable[..., Daemon]) -> Iterator[OtaSite]:
    site = OtaSite(tmp_path, daemon)
    site.say("bell", b"look", retain=True)  # each start looks as soon as it is connected
    yield site
    site.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[UpdateServer]:
    with UpdateServer(tmp_path / "repository") as server:
        yield server


@pytest.fixture
def far(tmp_path: Path, daemon: Callable[..., Daemon], server: UpdateServer) -> Iterator[OtaSite]:
    """Its repository is behind ``server``."""
    site = OtaSite(tmp_path, daemon, repository=server.url)
    site.say("bell", b"look", retain=True)
    yield site
    site.close()


# --- in every run: two updates through all states, and the ways back -------------------------------------------------


def test_killed_in_checking_fetching_staged_and_verifying(far: OtaSite, server: UpdateServer) -> None:
    release = far.publish("2.0.0")
    rollout = far.rollout(release)
    open_all_day = far.configuration
    with server.lying("timestamp.json", Request.nothing):
        far.sign_rollouts(rollout)
        far.wait_state("checking")
        far.daemon.kill()
    with server.lying(release.sha256, half_of(far, release)):
        restart(far)
        wait_for(lambda: size(part(far, release)) > release.length // 4, "a part of the model")
        far.daemon.kill()
    had = size(part(far, release))
    far.configuration = far.configured(closed_window(), repository=server.url)
    restart(far)
    assert "waits for" in far.wait_status(lambda said: "waits for" in said["detail"], "the window")["detail"]
    assert server.asked(release.sha256)[-1].first_byte() == had
    far.daemon.kill()
    far.configuration = open_all_day
    restart(far)
    far.wait_state("verifying")
    far.daemon.kill()
    restart(far)
    assert far.wait_end(rollout)["state"] == "committed"
    far.wait_version("2.0.0")
    assert len(server.asked(release.sha256)) == 2, "what lay on the disk was fetched again"


def test_killed_in_shadow_in_trial_and_at_the_commit(site: OtaSite) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), shadow_s=FOR_EVER_S, trial_s=3.0)
    site.wait_state("shadow")
    site.daemon.kill()
    assert site.versions() == {"1.1.0"}
    rollout = replace(rollout, shadow_s=0.5)
    site.sign_rollouts(rollout)
    restart(site)
    site.wait_version("2.0.0")
    site.daemon.kill()
    restart(site)
    kill_at(site, lambda: (state(site).get("last") or {}).get("state") == "committed")
    restart(site)
    last = site.wait_end(rollout)
    assert (last["state"], site.current()) == ("committed", "2.0.0")
    site.wait_version("2.0.0")


def test_killed_while_it_goes_back(site: OtaSite) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), trial_s=FOR_EVER_S)
    site.wait_version("2.0.0")
    site.sign_rollouts(replace(rollout, state="stopped"))
    kill_at(site, lambda: (state(site).get("last") or {}).get("state") == "rolled_back")
    restart(site)
    last = site.wait_end(rollout)
    assert (last["state"], last["reason"]) == ("rolled_back", "withdrawn")
    boot = site.status()["boot_id"]
    assert {item["model"]["version"] for item in site.subscriber.predictions() if item["boot_id"] == boot} == {"1.1.0"}
    assert site.current() == "factory"


def test_a_model_with_which_the_process_dies_again_and_again_is_left(site: OtaSite) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), trial_s=FOR_EVER_S)
    for start in range(1, STARTS_MOST + 1):
        site.wait_version("2.0.0")
        assert state(site)["trial"]["starts"] == start
        site.daemon.kill()
        restart(site)
    last = site.wait_end(rollout)
    assert (last["state"], last["reason"]) == ("rolled_back", "starts")
    assert site.current() == "factory"
    site.wait_version("1.1.0")
    seen = len(site.subscriber.predictions())
    site.check()
    site.goes_on()
    assert site.versions(seen) == {"1.1.0"}, "the same rollout brought it again"


# --- at any time -----------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("where", ["checking", "verifying", "shadow", "trial", "idle"])
def test_killed_twice_as_soon_as_it_says_that_it_is_in(where: str, site: OtaSite) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), shadow_s=0.5)
    for _ in range(2):
        site.wait_state(where)
        site.daemon.kill()
        restart(site)
    assert site.wait_end(rollout)["state"] == "committed"
    site.wait_version("2.0.0")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(15))
def test_killed_at_any_time_it_goes_on_and_arrives(seed: int, site: OtaSite) -> None:
    chance = random.Random(seed)
    rollout = site.roll_out(site.publish("2.0.0"), shadow_s=chance.choice((0.0, 0.5)))
    for _ in range(chance.randrange(1, STARTS_MOST)):
        threading.Event().wait(chance.uniform(0.0, 6.0))
        site.daemon.kill()
        held = state(site)["models"].get(NAME, {"current": {"version": "factory"}})
        assert held["current"]["version"] in ("factory", "2.0.0")
        restart(site)
    assert site.wait_end(rollout)["state"] == "committed"
    site.wait_version("2.0.0")


@pytest.mark.soak
def test_killed_while_the_operator_goes_back_from_a_committed_model(site: OtaSite) -> None:
    site.wait_end(site.roll_out(site.publish("2.0.0")))
    command = (site.folder, "models", "rollback", NAME, "--config", config(site))
    asking = threading.Thread(target=edge_agent, args=command)
    asking.start()
    kill_at(site, lambda: (state(site).get("last") or {}).get("reason") == "operator")
    restart(site)
    site.wait_version("1.1.0")
    assert site.current() == "factory"
    asking.join()


# --- helpers ---------------------------------------------------------------------------------------------------------


def restart(site: OtaSite) -> None:
    """And it infers."""
    site.start()
    site.goes_on()


def kill_at(site: OtaSite, condition: Callable[[], bool]) -> None:
    """In the millisecond after that came true."""
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, site.daemon.log[-4000:]
        time.sleep(0.0005)
    site.daemon.kill()


def state(site: OtaSite) -> dict[str, Any]:
    """As it stands on the disk."""
    try:
        found: dict[str, Any] = json.loads((site.update_folder / "state.json").read_bytes())["state"]
    except FileNotFoundError:
        return {"models": {}}
    return found


def config(site: OtaSite) -> Path:
    """Of the daemon that was started last."""
    return max(site.folder.glob("agent*.toml"), key=lambda path: path.stat().st_mtime_ns)


def part(site: OtaSite, release: Release) -> Path:
    return site.update_folder / "parts" / f"{release.sha256}.part"


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def half_of(site: OtaSite, release: Release) -> Callable[[Request], None]:
    """Answers with as much of it, and then with silence."""
    file = site.repository.target_file(site.repository.models.targets[release.target])

    def answer(request: Request) -> None:
        request.answer("200 OK", file.read_bytes()[: release.length // 2], length=release.length)
        request.nothing()

    return answer


def closed_window() -> str:
    """A line of [update]: trials begin in six hours."""
    opens = datetime.now(timezone.utc) + timedelta(hours=6)
    return f'window = "{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}"'

"""Who is heard of the shadows that a device has had: the one that goes on."""

from __future__ import annotations

from pathlib import Path

from edge_agent.core.rollout_steps import Shadowed, ShadowFailed
from edge_agent.io.model_store import ModelStore
from edge_agent.rollouts import Audience, Candidate, Reason, Release, Rollout
from edge_agent.updating.shadow import ShadowSeat
from edge_agent.updating.swapping import Swapping
from tests.simulators.supervised import Site
from tests.simulators.updating_parts import updating_parts

SHA256 = "1" * 64
TARGET = "models/conveyor/2.tflite"
CANDIDATE = Candidate(
    Release(name="conveyor", version="2", target=TARGET, length=1, sha256=SHA256, seq=2),
    Rollout(id="r2", number=2, model="conveyor", target=TARGET, sha256=SHA256, to=Audience(everyone=True)),
)


def test_what_is_said_of_a_shadow_that_was_ended_or_replaced_is_awaited_no_more(tmp_path: Path, example: Path) -> None:
    site, said = Site(), []
    parts = updating_parts(example)
    store = ModelStore(tmp_path / "update")

    def report(number: int, report: Shadowed | ShadowFailed) -> None:
        said.append((number, report))

    seat = ShadowSeat(parts, store, Swapping(parts, store), report, site.services)
    seat.begin(CANDIDATE)  # is not on the disk
    seat.begin(CANDIDATE)
    [(first, _), (second, failed)] = said
    assert isinstance(failed, ShadowFailed)
    assert failed.failed.reason is Reason.HASH
    assert (seat.awaits(first), seat.awaits(second)) == (False, True)
    seat.end()
    assert not seat.awaits(second)

"""A monitor that ends and goes on: saved, restored, renewed."""

import hashlib
import zlib

import numpy as np
import pytest
from msgspec import structs

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.state import SCHEMA, Settings
from edge_agent.monitoring import Level
from tests.core.drift.watched_rows import BLOCK, DAY, SECOND, SETTINGS, SPECS, Line, learnt, ordinary, shifted

WIDE = (
    *(FeatureSpec(f"sensor.{number}", "sensor") for number in range(26)),
    FeatureSpec("out.class", "prediction", "class"),
)


@pytest.mark.parametrize("reference", [None, make_reference(SPECS, ordinary(1, 5))], ids=["alone", "with a reference"])
def test_what_is_saved_and_restored_at_any_moment_goes_on_bit_by_bit(reference: object) -> None:
    rows = np.concatenate([ordinary(1.2, 1), shifted(ordinary(0.8, 2), 0, 5.0)])
    settings = Settings(BLOCK, DAY)
    whole = Line(Monitor(SPECS, settings, reference, 3))  # type: ignore[arg-type]
    cut = Line(Monitor(SPECS, settings, reference, 3))  # type: ignore[arg-type]
    looks = 0

    def again() -> None:
        nonlocal looks
        looks += 1
        if looks % 7 == 0:
            cut.monitor = Monitor.restore(cut.monitor.save())

    assert whole.see(rows) == cut.see(rows, after=again)
    assert looks > 100 and whole.changes
    whole.look()
    cut.look()
    assert whole.monitor.view() == cut.monitor.view()
    assert whole.monitor.save() == cut.monitor.save()
    assert whole.monitor.take_tally() == cut.monitor.take_tally()


def test_after_a_death_at_most_what_came_since_the_save_is_lost() -> None:
    line = learnt()
    saved, mono_ns, wall_ns = line.monitor.save(), line.mono_ns, line.wall_ns
    line.see(ordinary(0.01, 4))
    died = Line(Monitor.restore(saved), mono_ns=mono_ns + DAY, wall_ns=wall_ns + 600 * SECOND)
    assert died.see(shifted(ordinary(1, 5), 0, 6.0)) != []


def test_a_new_boot_goes_on_though_the_monotonic_clock_began_again() -> None:
    line = Line(Monitor(SPECS, SETTINGS))
    line.see(ordinary(1.5, 6))
    later = Line(Monitor.restore(line.monitor.save()), mono_ns=SECOND, wall_ns=line.wall_ns + DAY // 2)
    assert later.monitor.view().learning.days == pytest.approx(1.5, abs=0.02)
    later.see(ordinary(1.1, 7))
    assert later.monitor.view().learning.done, "the half day without power was part of a day with rows"


def test_without_wall_time_a_new_boot_goes_on_where_the_last_one_ended() -> None:
    line = Line(Monitor(SPECS, SETTINGS), synced=False)
    line.see(ordinary(1.5, 8))
    later = Line(Monitor.restore(line.monitor.save()), synced=False, mono_ns=SECOND)
    later.see(ordinary(1, 9))
    assert later.monitor.view().learning.days == pytest.approx(2.5, abs=0.02)


@pytest.mark.parametrize("place", [0, 10, len(SCHEMA) + 3, len(SCHEMA) + 40, -1])
def test_a_damaged_state_is_refused(place: int) -> None:
    content = bytearray(Monitor(SPECS, SETTINGS).save())
    content[place] ^= 1
    with pytest.raises(ValueError, match="drift state"):
        Monitor.restore(bytes(content))


@pytest.mark.parametrize("content", [b"", b"edge-agent/drift-state/2\n", SCHEMA], ids=["empty", "other", "cut"])
def test_another_version_or_a_cut_state_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="drift state"):
        Monitor.restore(content)


def test_a_body_that_is_no_state_is_refused_though_its_checksum_is_right() -> None:
    for body in (b"no zlib", zlib.compress(b"no state")):
        with pytest.raises(ValueError, match="does not read"):
            Monitor.restore(SCHEMA + hashlib.sha256(body).digest() + body)


def test_sums_beyond_64_bits_are_saved() -> None:
    line = Line(Monitor(SPECS[:1], SETTINGS, make_reference(SPECS[:1], ordinary(1)[:, :1])))
    line.see(np.full((40_000, 1), 1e300), SECOND)
    saved = Monitor.restore(line.monitor.save()).take_tally()
    assert saved == line.monitor.take_tally() and saved.squares[0] > 2**64


def test_whose_state_it_is_can_be_told() -> None:
    reference = make_reference(SPECS, ordinary(1))
    monitor = Monitor.restore(Monitor(SPECS, SETTINGS, reference).save())
    assert monitor.fits(SPECS, SETTINGS, reference)
    assert not monitor.fits(SPECS[:4], SETTINGS, reference)
    assert not monitor.fits(SPECS, SETTINGS, None)
    assert not monitor.fits(SPECS, Settings(2 * BLOCK, 3 * DAY), reference)


def test_a_new_model_keeps_what_was_learnt_of_its_inputs_and_learns_its_predictions_anew() -> None:
    line = learnt()
    specs = (SPECS[2], FeatureSpec("kind.confidence", "prediction"), SPECS[0])
    line.monitor.renew(specs, SETTINGS, None)
    states = {state.name: state for state in line.monitor.view().features}
    assert states["oven.temperature"].level is states["image.brightness"].level is Level.OK
    assert states["kind.confidence"].level is Level.LEARNING
    assert not line.monitor.view().learning.done
    changes = line.see(shifted(ordinary(1, 10), 0, 6.0)[:, [2, 3, 0]])
    assert {it.feature for it in changes} == {"oven.temperature", ""}, "its history is still there"
    line.see(ordinary(2.2, 11)[:, [2, 3, 0]])
    assert line.monitor.view().learning.done


def test_a_level_of_an_input_outlives_the_model_but_not_the_reference() -> None:
    reference = make_reference(SPECS, ordinary(1, 12))
    line = learnt(reference=True)
    line.see(shifted(ordinary(1, 13), 0, 6.0))
    tiers = line.monitor.view().features[0].tier
    assert tiers == "reference"
    line.monitor.renew(SPECS, SETTINGS, reference)
    renewed = line.monitor.view().features[0]
    assert renewed.tier in ("shape", "baseline") and renewed.level is not Level.OK


@pytest.mark.parametrize(
    "other",
    [{"unit": "degF"}, {"group": "prediction"}, {"name": "oven.heat"}],
    ids=["unit", "group", "name"],
)
def test_an_input_that_is_not_the_same_is_learnt_anew(other: dict[str, str]) -> None:
    line = learnt()
    line.monitor.renew((structs.replace(SPECS[0], **other), *SPECS[1:3]), SETTINGS, None)
    assert [state.level is Level.LEARNING for state in line.monitor.view().features] == [True, False, False]


def test_a_new_model_with_the_same_reference_does_not_end_what_was_told_against_it() -> None:
    """An update on a camera that has drifted: the drift does not go away with it, nor does the alarm."""
    reference = make_reference(SPECS, ordinary(3, 700))
    line = Line(Monitor(SPECS, SETTINGS, reference, 0))
    line.see(shifted(ordinary(1, 31), 2, 4.0))
    before = line.monitor.view().features[2]
    assert (before.level, before.tier) == (Level.CRITICAL, "reference")
    line.monitor.renew(SPECS, SETTINGS, reference)
    after = line.monitor.view().features[2]
    assert (after.level, after.tier, after.since_wall_ns) == (before.level, before.tier, before.since_wall_ns)
    line.monitor.renew(SPECS, SETTINGS, make_reference(SPECS, ordinary(3, 701)))
    assert line.monitor.view().features[2].tier != "reference"


def test_a_model_may_be_renewed_while_its_baseline_is_learnt() -> None:
    line = Line(Monitor(SPECS, SETTINGS, None, 2))
    line.see(ordinary(2, 14))
    line.monitor.renew(SPECS[:3], SETTINGS, make_reference(SPECS[:3], ordinary(1, 15)[:, :3]))
    changes = line.see(ordinary(1.2, 16)[:, :3])
    assert [(it.feature, it.after) for it in changes] == [("", Level.OK)]


def test_another_length_of_block_learns_all_anew() -> None:
    line = learnt()
    line.monitor.renew(SPECS, Settings(2 * BLOCK, 3 * DAY), None)
    assert line.monitor.view().level is Level.LEARNING


def test_two_weeks_of_27_features_stay_within_a_megabyte() -> None:
    random = np.random.default_rng(17)
    line = Line(Monitor(WIDE, Settings(BLOCK, 14 * DAY)))
    each, most = 100 * SECOND, 0
    for _ in range(15):
        rows = np.column_stack([random.normal(size=(864, 26)), random.integers(0, 10_000, 864)])
        line.see(rows, each)
        most = max(most, held(line.monitor))
    assert line.monitor.view().learning.done
    assert most < 2**20
    assert len(line.monitor.save()) < 2**18


def held(thing: object, seen: set[int] | None = None) -> int:
    """Bytes of all arrays that are reachable."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes if thing.base is None else held(thing.base, seen)
    if isinstance(thing, (list, tuple)):
        return sum(held(part, seen) for part in thing)
    names = getattr(thing, "__struct_fields__", ()) or getattr(thing, "__dict__", {})
    return sum(held(getattr(thing, name), seen) for name in names)

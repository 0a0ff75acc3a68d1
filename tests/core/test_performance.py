"""Labels that come back: which predictions they find, what is made of them, and what a restart keeps."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.card_schema import OutputCard
from edge_agent.core.feedback import Answer
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.performance import Performance
from edge_agent.core.performance_head import LEARN_LABELS, estimated_accuracy
from edge_agent.core.performance_report import full_report, summary
from edge_agent.core.performance_watch import SLOT_S
from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import Level, Moment, Reference
from edge_agent.records import ModelIdentity
from tests.core.labelled import (
    BEGIN_WALL_NS,
    BOOT,
    FAULT,
    HORIZON_NS,
    MODEL,
    OBJECTS,
    ODD,
    SECOND,
    WEAR,
    at,
    card,
    classified,
    detected,
    feedback,
    judged,
    measured,
    prediction_id,
)

OTHER_BOOT = BOOT.replace("0b2a", "ffff")
GOOD = classified(0.8, 0.15, 0.05)


def performance(*heads: OutputCard, reference: Reference | None = None, horizon_ns: int = HORIZON_NS) -> Performance:
    made = Performance(card(*(heads or (FAULT,))), MODEL, horizon_ns=horizon_ns, reference=reference)
    made.begin(BOOT, at(0))
    return made


def labelled_reference(rows: int, right: int) -> Reference:
    """Two bins of the confidence and the missing one: the upper half of the rows is all right."""
    half = rows // 2
    return Reference((), (), rows, hits={"fault": ((half, right - half), (half, half), (0, 0))})


def message(seq: int, **changed: object) -> dict[str, object]:
    """A prediction as it was published."""
    said = {
        "id": prediction_id(seq),
        "time": rfc3339(BEGIN_WALL_NS),
        "clock_synced": True,
        "model": {"name": MODEL.name, "version": MODEL.version, "sha256": MODEL.sha256},
        "outputs": {"fault": GOOD},
    }
    return said | changed


def test_a_label_is_counted_for_the_prediction_that_it_names() -> None:
    watched = performance()
    watched.remember(3, {"fault": GOOD}, at(1))
    watched.remember(9, {"fault": classified(0.1, 0.9, 0.0)}, at(2))
    assert watched.label(feedback(3, "good"), at(60)) == Answer(prediction_id(3), "counted", wrong=False)
    assert watched.label(feedback(9, "worn"), at(60)) == Answer(prediction_id(9), "counted", wrong=True)
    assert summary(watched, at(60))["outputs"]["fault"]["total"][:2] == [2, 0.5]


@pytest.mark.parametrize(
    ("label", "seconds", "result"),
    [
        (feedback(4, "good"), 60, "unknown"),
        (feedback(3, "good", OTHER_BOOT), 60, "unknown"),
        (feedback(3, "good"), 8 * 86400, "late"),
        (feedback(3, "rotten"), 60, "malformed"),
        (feedback(3, {"wear": 1}), 60, "malformed"),
        (feedback(3, "good", selected=True), 60, "selected"),
    ],
)
def test_what_does_not_count_is_counted_as_that_and_answered(label: object, seconds: float, result: str) -> None:
    watched = performance()
    watched.remember(3, {"fault": GOOD}, at(1))
    answer = watched.label(label, at(seconds))  # type: ignore[arg-type]
    assert answer.result == result
    assert answer.detail or result == "selected"
    assert summary(watched, at(seconds)) == {"labels": {result: 1}, "outputs": {}}


def test_the_second_label_of_a_prediction_is_doubled_whatever_it_says() -> None:
    watched = performance()
    watched.remember(3, {"fault": GOOD}, at(1))
    results = [watched.label(feedback(3, label), at(2)).result for label in ("good", "good", "worn")]
    assert results == ["counted", "doubled", "doubled"]
    assert summary(watched, at(3))["outputs"]["fault"]["total"][0] == 1


def test_a_prediction_that_is_no_longer_kept_is_late_unless_its_message_comes_along() -> None:
    watched = performance()
    for seq in range(20_000):
        watched.remember(seq, {"fault": GOOD}, at(seq / 10))
    assert watched.label(feedback(0, "good"), at(2000)).result == "late"
    assert watched.label(feedback(0, "worn", prediction=message(0)), at(2000)) == Answer(
        prediction_id(0), "counted", wrong=True
    )
    assert watched.label(feedback(0, "worn", prediction=message(0)), at(2000)).result == "doubled"
    assert watched.label(feedback(19_999, "good"), at(2000)).result == "counted"


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (message(0), "counted"),
        (message(0, clock_synced=False, time="no time"), "counted"),
        (message(1), "malformed"),
        (message(0, outputs={}), "malformed"),
        (message(0, outputs={"fault": {"classes": [3]}}), "malformed"),
        (message(0, time="yesterday"), "malformed"),
        (message(0, model={"sha256": "cd" * 32}), "late"),
        (message(0, time=rfc3339(BEGIN_WALL_NS - HORIZON_NS - SECOND)), "late"),
    ],
)
def test_a_message_that_comes_along_is_looked_at_before_it_counts(said: dict[str, object], result: str) -> None:
    assert performance().label(feedback(0, "good", prediction=said), at(1)).result == result


def test_an_aggregate_of_an_interval_is_no_prediction_to_label() -> None:
    watched = performance()
    watched.remember(0, {"fault": {"task": "classification", "labels": {"good": 3}}}, at(0))
    assert watched.label(feedback(0, "good"), at(1)).result == "unknown"


def test_every_task_has_its_figures() -> None:
    watched = performance(FAULT, OBJECTS, WEAR, ODD)
    rows = [(GOOD, detected((1, 0.9)), 1.0, 0.2), (GOOD, detected(), 2.0, 0.7), (GOOD, detected((0, 0.6)), 4.0, 0.9)]
    truth = [("good", "hollow", 1.5, 0), ("good", "none", 2.0, 1), ("worn", "worn", 3.0, 0)]
    for seq, (fault, objects, wear, odd) in enumerate(rows):
        decoded = {"fault": fault, "objects": objects, "value": measured(wear), "wear": measured(wear)}
        watched.remember(seq, decoded | {"odd": judged(odd)}, at(seq))
    for seq, labels in enumerate(truth):
        named = dict(zip(("fault", "objects", "wear", "odd"), labels, strict=True))
        assert watched.label(feedback(seq, named), at(10)).result == "counted"
    said = summary(watched, at(10))["outputs"]
    assert said["fault"]["total"] == [3, 0.6667, 0.3333, 0.5, 0.4, pytest.approx(0.5)]
    assert said["objects"]["total"] == [3, 0.6667, 0.5, 0.5, 0.5, None]
    assert said["wear"]["total"] == [3, 0.5, 0.6455, -0.07143]
    assert said["odd"]["total"] == [3, 0.6667, 0.5, 1.0, 0.6667, 0.5]
    assert said["fault"]["window"] == said["fault"]["total"]


def test_one_label_for_a_model_with_several_outputs_is_refused_with_their_names() -> None:
    watched = performance(FAULT, WEAR)
    watched.remember(0, {"fault": GOOD, "wear": measured(1)}, at(0))
    answer = watched.label(feedback(0, "good"), at(1))
    assert (answer.result, answer.detail) == (
        "malformed",
        'the model has the outputs fault, wear: say "labels" with one for each',
    )
    assert watched.label(feedback(0, {"wear": 1.1}), at(1)).result == "counted"


def test_the_window_forgets_and_the_total_does_not() -> None:
    watched = performance()
    for day in range(4):
        watched.remember(day, {"fault": GOOD}, at(day * 86400))
        watched.label(feedback(day, "good" if day < 2 else "worn"), at(day * 86400 + 1))
    said = summary(watched, at(3 * 86400 + 10))["outputs"]["fault"]
    assert (said["total"][:2], said["window"][:2], said["window_s"]) == ([4, 0.5], [2, 0.0], 86410)
    assert summary(watched, at(9 * 86400))["outputs"]["fault"]["window"] == [0]


def run(watched: Performance, share_wrong: float, labels: int, *, first: int = 0, seed: int = 0) -> Level:
    """A label a minute; returns the level at the end."""
    wrong = np.random.default_rng(seed).random(labels) < share_wrong
    for seq, is_wrong in enumerate(wrong.tolist(), first):
        watched.remember(seq, {"fault": GOOD}, at(60 * seq))
        watched.label(feedback(seq, "worn" if is_wrong else "good"), at(60 * seq + 30))
    return watched.level


def test_an_accuracy_that_falls_below_the_reference_is_critical_within_hours() -> None:
    watched = performance(reference=labelled_reference(1000, 950))
    assert run(watched, 0.05, 600) is Level.OK
    assert watched.changes() == []
    assert run(watched, 0.3, 300, first=600) is Level.CRITICAL
    info, critical = watched.changes()
    assert (info.feature, info.before, info.after) == ("fault.accuracy", Level.OK, Level.INFO)
    assert (critical.before, critical.after) == (Level.INFO, Level.CRITICAL)
    assert "is put up with" in critical.why
    assert watched.changes() == []


def test_without_a_reference_the_first_labels_say_what_is_usual() -> None:
    watched = performance()
    assert run(watched, 0.1, LEARN_LABELS - 1) is Level.LEARNING
    assert summary(watched, at(0))["outputs"]["fault"]["learning"] == [LEARN_LABELS - 1, LEARN_LABELS]
    assert run(watched, 0.1, 400, first=LEARN_LABELS) is Level.OK
    assert run(watched, 0.5, 300, first=LEARN_LABELS + 400) is Level.CRITICAL


def test_a_reference_with_few_labels_is_no_baseline() -> None:
    assert performance(reference=labelled_reference(100, 90)).level is Level.LEARNING


def test_labels_of_selected_samples_raise_no_alarm() -> None:
    watched = performance(reference=labelled_reference(1000, 950))
    for seq in range(300):
        watched.remember(seq, {"fault": GOOD}, at(60 * seq))
        watched.label(feedback(seq, "worn", selected=True), at(60 * seq))
    assert watched.level is Level.OK
    assert summary(watched, at(20_000))["outputs"] == {}


def test_a_regression_that_errs_more_than_it_used_to_is_critical() -> None:
    watched = performance(WEAR)
    errors = np.random.default_rng(1).normal(0, 1, 900)
    errors[600:] *= 3
    for seq, error in enumerate(errors.tolist()):
        watched.remember(seq, {"wear": measured(5.0 + error)}, at(60 * seq))
        answer = watched.label(feedback(seq, 5.0), at(60 * seq))
        assert (answer.wrong is None) == (seq < LEARN_LABELS)
        if seq < 600:
            assert watched.level in (Level.LEARNING, Level.OK)
    assert watched.level is Level.CRITICAL


def test_after_a_rebaseline_the_level_is_learnt_anew_and_the_figures_stay() -> None:
    watched = performance(reference=labelled_reference(1000, 950))
    run(watched, 0.4, 400)
    watched.rebaseline()
    assert watched.level is Level.LEARNING
    assert run(watched, 0.4, 600, first=400) is Level.OK
    assert summary(watched, at(0))["outputs"]["fault"]["total"][0] == 1000


def test_confidences_that_the_reference_was_wrong_at_lower_the_estimated_accuracy() -> None:
    hits = labelled_reference(1000, 900).hits["fault"]
    assert estimated_accuracy((50, 50, 7), hits) == 0.9
    assert estimated_accuracy((100, 0, 0), hits) == 0.8
    assert estimated_accuracy((0, 0, 9), hits) is None
    assert estimated_accuracy((1, 1, 0), ((0, 0), (10, 5), (0, 0))) == 0.5
    assert estimated_accuracy((1, 1, 0), ((0, 0), (0, 0), (0, 0))) is None


def test_a_falling_estimate_is_critical_without_a_single_label() -> None:
    watched = performance(reference=labelled_reference(1000, 900))
    for block in range(200):
        watched.estimate({"fault": (48, 52, 0), "unheard": (1, 2, 3)}, at(block * SLOT_S))
    assert watched.level is Level.OK
    for block in range(200, 900):
        watched.estimate({"fault": (100, 0, 0)}, at(block * SLOT_S))
    (*_, last) = watched.changes()
    assert (last.feature, last.after) == ("fault.estimated", Level.CRITICAL)
    assert summary(watched, at(0))["outputs"]["fault"]["estimated"][0] == "critical"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["good", "worn", "rotten"])), max_size=60),
    st.integers(0, 60),
)
def test_a_restart_in_between_changes_nothing(labels: list[tuple[int, str]], cut: int) -> None:
    one, other = performance(), performance()
    for watched in (one, other):
        for seq in range(0, 30, 2):
            watched.remember(seq, {"fault": GOOD if seq % 3 else classified(0.2, 0.3, 0.5)}, at(seq))
    for number, (seq, label) in enumerate(labels):
        if number == cut:
            kept, other = other.save(at(100)), Performance(card(FAULT), MODEL, horizon_ns=HORIZON_NS)
            other.restore(kept)
            other.begin(OTHER_BOOT, at(100))
            assert other.save(at(100))[:20] == kept[:20]
        assert other.label(feedback(seq, label), at(100)) == one.label(feedback(seq, label), at(100))
    assert full_report(other, at(200)) == full_report(one, at(200))


def test_a_state_is_written_again_as_it_was_read() -> None:
    watched = performance(FAULT, WEAR, ODD, OBJECTS, reference=labelled_reference(1000, 950))
    for seq in range(500):
        decoded = {"fault": GOOD, "wear": measured(seq), "odd": judged(seq / 500), "objects": detected((seq % 3, 0.7))}
        watched.remember(seq, decoded, at(60 * seq))
        named = {"fault": seq % 3, "wear": seq + seq % 5, "odd": seq % 2, "objects": "none"}
        watched.label(feedback(seq, named), at(60 * seq))
    watched.estimate({"fault": (30, 20, 1)}, at(30_000))
    kept = watched.save(at(30_000))
    again = Performance(
        card(FAULT, WEAR, ODD, OBJECTS), MODEL, horizon_ns=HORIZON_NS, reference=labelled_reference(1000, 950)
    )
    again.restore(kept)
    assert again.save(Moment(0, at(30_000).wall_ns, synced=True)) == kept
    assert len(kept) < 1_000_000


@pytest.mark.parametrize("place", [0, 40, 70, -1])
def test_a_damaged_state_is_refused(place: int) -> None:
    kept = bytearray(performance().save(at(0)))
    kept[place] ^= 1
    with pytest.raises(ValueError, match=r"damaged|another version"):
        performance().restore(bytes(kept))
    with pytest.raises(ValueError, match=r"damaged|another version"):
        performance().restore(bytes(kept[:30]))


@pytest.mark.parametrize(
    ("other", "identity"),
    [
        (card(FAULT), ModelIdentity("conveyor", "2", "ef" * 32)),
        (card(FAULT, WEAR), MODEL),  # the same file with another [model.NAME.card]
        (card(WEAR), MODEL),
        (card(FAULT, classes=("good", "worn")), MODEL),
    ],
    ids=["another model", "one more output", "another task", "other labels"],
)
def test_of_the_state_of_another_model_only_the_ids_count(other: ResolvedCard, identity: ModelIdentity) -> None:
    watched = performance()
    watched.remember(0, {"fault": GOOD}, at(0))
    watched.label(feedback(0, "good"), at(1))
    changed = Performance(other, identity, horizon_ns=HORIZON_NS)
    changed.restore(watched.save(at(2)))
    changed.begin(OTHER_BOOT, at(3))
    assert summary(changed, at(3)) == {}
    label = {output.name: "good" if output is FAULT else 1.0 for output in other.outputs}
    assert changed.label(feedback(0, label), at(4)).result == "late"


def test_the_horizon_goes_on_while_the_device_is_off_where_the_clock_says_for_how_long() -> None:
    for synced, result in ((True, "late"), (False, "counted")):
        watched = performance(horizon_ns=3600 * SECOND)
        watched.remember(0, {"fault": GOOD}, at(0, synced))
        kept = watched.save(at(10, synced))
        again = Performance(card(FAULT), MODEL, horizon_ns=3600 * SECOND)
        again.restore(kept)
        again.begin(OTHER_BOOT, at(4000, synced))
        assert again.label(feedback(0, "good"), at(4001, synced)).result == result


def test_labels_for_the_model_before_are_late() -> None:
    watched = performance()
    watched.remember(0, {"fault": GOOD}, at(1))
    new = watched.renew(card(WEAR), ModelIdentity("conveyor", "2", "ef" * 32), None, at(5))
    assert new.label(feedback(0, 1.0), at(6)).result == "late"
    new.remember(1, {"wear": measured(1.0)}, at(7))
    assert new.label(feedback(0, 1.0), at(8)).result == "late"
    assert new.label(feedback(1, 1.0), at(8)).result == "counted"
    assert new.label(feedback(2, 1.0), at(8)).result == "unknown"


def test_many_classes_are_published_by_their_most_frequent_mistakes() -> None:
    head = FAULT
    watched = Performance(card(head, classes=()), MODEL, horizon_ns=HORIZON_NS)
    watched.begin(BOOT, at(0))
    for seq in range(400):
        watched.remember(seq, {"fault": {"classes": [{"index": seq % 40, "score": 0.9}]}}, at(seq))
        watched.label(feedback(seq, 7 if seq % 40 in (3, 4) else seq % 40), at(seq))
    said = summary(watched, at(400))
    assert said["outputs"]["fault"]["confused"] == [["7", "3", 10], ["7", "4", 10]]
    assert len(msgspec.json.encode(said)) < 400
    whole = full_report(watched, at(400))["outputs"]["fault"]
    assert whole["confusion"]["classes"][-1] == "(other)"
    assert sum(map(sum, whole["confusion"]["counts"])) == 400
    assert ["7", 1.0, 0.3333, 0.5, 30] in whole["classes"]

"""The ring between a camera's thread and a model's: no frame waits for a wake-up that was missed."""

from __future__ import annotations

import threading

from edge_agent.stages.ring import Ring, Slot

LONG_S = 600.0


def wait_in_thread(ring: Ring) -> threading.Thread:
    thread = threading.Thread(target=ring.wait, args=(LONG_S,), daemon=True)
    thread.start()
    return thread


def filled(ring: Ring, due_ns: int = 0) -> Slot:
    slot, _ = ring.acquire()
    assert slot is not None
    slot.due_ns = due_ns
    ring.submit(slot)
    return slot


def test_a_slot_submitted_between_a_look_and_the_wait_ends_the_wait() -> None:
    ring = Ring([Slot({}), Slot({})], newest=False)
    assert ring.take(0) == (None, [], None)
    slot = filled(ring)
    waiting = wait_in_thread(ring)
    waiting.join(20)
    assert not waiting.is_alive()
    assert ring.take(0) == (slot, [], None)


def test_a_slot_that_is_not_due_does_not_keep_its_reader_awake() -> None:
    ring = Ring([Slot({}), Slot({})], newest=True)
    filled(ring, due_ns=10)
    assert ring.take(0) == (None, [], 10)
    waiting = wait_in_thread(ring)
    waiting.join(0.1)
    assert waiting.is_alive()
    ring.close()
    waiting.join(20)
    assert not waiting.is_alive()


def test_the_newest_of_the_slots_that_are_due_is_taken_and_the_others_are_named() -> None:
    ring = Ring([Slot({}) for _ in range(3)], newest=True)
    first, second, later = filled(ring, 1), filled(ring, 2), filled(ring, 9)
    assert ring.take(5) == (second, [first], None)
    assert ring.take(5) == (None, [], 9)
    assert ring.take(9) == (later, [], None)


def test_without_a_free_slot_the_oldest_frame_of_a_live_camera_gives_way() -> None:
    ring = Ring([Slot({}) for _ in range(2)], newest=True)
    oldest = filled(ring)
    filled(ring)
    assert ring.acquire() == (oldest, True)


def test_a_slot_that_was_being_filled_when_the_ring_was_closed_is_not_taken_in() -> None:
    ring = Ring([Slot({})], newest=False)
    slot, _ = ring.acquire()
    assert slot is not None
    ring.close()
    assert ring.leftover() == 0
    assert not ring.submit(slot)
    assert ring.leftover() == 0


def test_a_file_waits_for_a_free_slot_until_the_ring_is_closed() -> None:
    ring = Ring([Slot({})], newest=False)
    filled(ring)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(ring.acquire()), daemon=True)
    thread.start()
    ring.close()
    thread.join(20)
    assert got == [(None, False)]
    assert ring.leftover() == 1

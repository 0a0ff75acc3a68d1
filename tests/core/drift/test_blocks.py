import numpy as np
import pytest

from edge_agent.core.drift.bins import FeatureSpec, binning_of
from edge_agent.core.drift.blocks import BINS, Block, OpenBlocks, Table, lengths_of
from tests.core.drift.watched_rows import BLOCK, DAY, SECOND

SPECS = (FeatureSpec("number", "sensor"), FeatureSpec("kind", "prediction", "class"))
ROWS = np.column_stack([np.linspace(0, 1, 50), np.arange(50) % 3])
TABLE = Table(binning_of(SPECS, ROWS))
LENGTHS = (BLOCK, 2 * BLOCK)


def filled(times: list[int]) -> OpenBlocks:
    blocks = OpenBlocks.empty(LENGTHS, [TABLE])
    blocks.add(ROWS[: len(times)], np.array(times), [TABLE])
    return blocks


def closed(blocks: OpenBlocks, time_ns: int) -> list[Block]:
    found = []
    while (block := blocks.close(time_ns, [TABLE])) is not None:
        found.append(block)
    return found


@pytest.mark.parametrize(
    ("block", "commissioning", "lengths"),
    [
        (BLOCK, 7 * DAY, [BLOCK, 2 * BLOCK, 4 * BLOCK, 8 * BLOCK, DAY]),
        (BLOCK, DAY // 4, [BLOCK]),
        (SECOND, 40 * SECOND, [SECOND, 2 * SECOND]),
        (DAY, 30 * DAY, [DAY]),
        (DAY // 8, 30 * DAY, [DAY // 8, DAY]),
    ],
)
def test_lengths_are_doubled_up_to_two_hours_and_a_day(block: int, commissioning: int, lengths: list[int]) -> None:
    assert list(lengths_of(block, commissioning)) == lengths


def test_a_table_puts_missing_last_and_goes_both_ways() -> None:
    counts = TABLE.binner.count(np.vstack([ROWS, [[np.nan, np.nan]]]))
    wide = TABLE.laid_out(counts)
    assert wide.shape == (2, BINS) and wide.sum(1).tolist() == [51, 51] and wide[:, -1].tolist() == [1, 1]
    assert TABLE.flat(wide).tolist() == counts.tolist()
    shares = TABLE.shares(wide)
    assert shares.sum(1) == pytest.approx([1, 1]) and ((shares > 0) == TABLE.used).all()


def test_blocks_close_in_the_order_of_their_ends_and_only_when_they_have_ended() -> None:
    blocks = filled([BLOCK // 2, BLOCK // 2 + SECOND])
    assert closed(blocks, BLOCK - 1) == []
    assert [(it.length, it.number, it.rows) for it in closed(blocks, BLOCK)] == [(0, 0, 2)]
    blocks.add(ROWS[:1], np.array([BLOCK + BLOCK // 2]), [TABLE])
    late = closed(blocks, 90 * BLOCK)
    assert [(it.length, it.number, it.start_ns, it.end_ns, it.rows) for it in late] == [
        (0, 1, BLOCK, 2 * BLOCK, 1),
        (1, 0, 0, 2 * BLOCK, 3),
    ]
    assert [int(it.counts[0].sum()) for it in late] == [2, 6], "every row in one bin of each feature"


def test_rows_in_the_head_are_passed_over_unless_they_are_far_from_the_row_before() -> None:
    dense = filled([SECOND * second for second in range(0, 50)])
    assert dense.rows == [1, 1], "the very first row has none before it"
    assert [it.rows for it in closed(dense, 2 * BLOCK)] == [1, 1]
    hourly = filled([0])
    closed(hourly, 2 * BLOCK)
    hourly.add(ROWS[:1], np.array([4 * BLOCK]), [TABLE])
    assert hourly.rows == [1, 1]


def test_rows_are_cut_where_any_block_begins() -> None:
    times = np.array([0, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 5 * BLOCK])
    assert OpenBlocks.empty(LENGTHS, [TABLE]).cuts(times).tolist() == [0, 2, 3, 5, 6]


def test_a_row_from_before_what_is_open_is_left_out() -> None:
    blocks = filled([3 * BLOCK + BLOCK // 2])
    blocks.add(ROWS[:1], np.array([BLOCK // 2]), [TABLE])
    assert blocks.numbers == [3, 1] and blocks.rows == [1, 1]


def test_new_bins_begin_again_and_the_others_go_on() -> None:
    blocks = filled([BLOCK // 2 + SECOND * second for second in range(10)])
    other = Table(binning_of(SPECS, ROWS * 7))
    blocks.lay_out_anew(0, TABLE, other, np.array([False, True]))
    wide = other.laid_out(blocks.counts[0][0])
    assert wide.sum(1).tolist() == [0, 10]

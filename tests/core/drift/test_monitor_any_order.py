"""Whatever happens to a monitor, in whatever order: it never fails, and what it says stays well formed."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.state import Settings
from edge_agent.monitoring import Level
from tests.core.drift.watched_rows import SECOND, SPECS, Line, ordinary

SHORT = Settings(10 * SECOND, 300 * SECOND)
REFERENCE = make_reference(SPECS, ordinary(0.2, 99))
HAPPENINGS = st.one_of(
    st.tuples(st.just("see"), st.integers(1, 120), st.sampled_from([SECOND // 2, SECOND, 7 * SECOND])),
    st.tuples(st.just("shifted"), st.integers(1, 120), st.sampled_from([SECOND // 2, SECOND])),
    st.tuples(st.just("odd"), st.sampled_from([math.nan, math.inf, -math.inf, 1e15, -0.0]), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.integers(0, 200_000), st.just(0)),
    st.tuples(st.just("clock"), st.integers(-(10**9), 10**9), st.booleans()),
    st.tuples(st.just("died"), st.booleans(), st.just(0)),
    st.tuples(st.just("rebaseline"), st.just(0), st.just(0)),
    st.tuples(st.just("renew"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("tally"), st.just(0), st.just(0)),
)


def happen(line: Line, kind: str, first, second) -> None:
    specs = line.monitor.view().features
    names = [feature.name for feature in specs]
    columns = [column for column, spec in enumerate(SPECS) if spec.name in names]
    if kind in ("see", "shifted", "odd"):
        count = first if kind != "odd" else 5
        rows = ordinary(count * 60 / 86_400 + 1e-9, count)[:count, columns]
        if kind == "shifted":
            rows = rows + 1000
        if kind == "odd" and second < len(columns):
            rows[:, second] = first
        line.see(rows, second if kind != "odd" else SECOND)
    elif kind == "wait":
        line.wait(first * SECOND)
        line.look()
    elif kind == "clock":
        line.wall_ns, line.synced = max(0, line.wall_ns + first * SECOND), second
    elif kind == "died":
        line.monitor = Monitor.restore(line.monitor.save())
        line.mono_ns = SECOND if first else line.mono_ns
        line.look()
    elif kind == "rebaseline":
        line.changes += line.monitor.rebaseline("because", line.now)
    elif kind == "renew":
        line.monitor.renew(SPECS[:first], SHORT, REFERENCE if second and first == 5 else None)
    else:
        line.monitor.take_tally()


@settings(max_examples=80, deadline=None)
@given(st.lists(HAPPENINGS, min_size=3, max_size=25), st.booleans())
def test_nothing_that_happens_breaks_it(happenings: list[tuple], reference: bool) -> None:
    line = Line(Monitor(SPECS, SHORT, REFERENCE if reference else None))
    for kind, first, second in happenings:
        happen(line, kind, first, second)
        view = line.monitor.view()
        levels = [feature.level for feature in view.features]
        assert view.level is (max(levels, key=list(Level).index) if levels else Level.LEARNING)
        assert all(math.isfinite(it) for it in (view.evidence, *view.threshold, view.learning.days))
        assert 0 <= view.learning.days <= view.learning.of_days or not view.learning.done
        assert np.isfinite([feature.evidence for feature in view.features]).all()
    assert Monitor.restore(line.monitor.save()).view() == line.monitor.view()

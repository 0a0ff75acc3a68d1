import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors import create_series
from edge_agent.io.sensors.csv_table import parse_time
from tests.io.sensors.making import sensor_config

S = 10**9
FOREVER = 2**62


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes, name="a.csv"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return f"csv:{name}"

    return write


def rows(series, media_ns=FOREVER):
    return [(row.mono_ns, row.values) for row in series.until(media_ns)]


def test_rows_run_on_media_time_from_the_first_row_on(series, file):
    source = file("time,v\n2013-07-04 00:00:00,1\n2013-07-04 00:00:01,2\n2013-07-04 00:00:03,3\n")
    assert rows(series(source, ["v"])) == [(0, {"v": 1.0}), (1 * S, {"v": 2.0}), (3 * S, {"v": 3.0})]


def test_each_row_is_given_once_with_one_beyond_the_time_asked_for(series, file):
    one = series(file("t,v\n0,0\n1,1\n2,2\n3,3\n"), ["v"])
    assert [t // S for t, _ in rows(one, 0)] == [0, 1]
    assert rows(one, S // 2) == []
    assert [t // S for t, _ in rows(one, 1 * S)] == [2]
    assert [t // S for t, _ in rows(one, 5 * S)] == [3]
    assert rows(one, 9 * S) == []


def test_start_and_speed_place_the_rows(series, file):
    source = file("t,v\n2013-07-04 00:00:00,0\n2013-07-04 01:00:00,1\n2013-07-04 02:00:00,2\n")
    one = series(source, ["v"], start="2013-07-04 00:30:00", speed=1800.0)
    assert rows(one) == [(1 * S, {"v": 1.0}), (3 * S, {"v": 2.0})]


def test_start_may_be_a_number_and_a_row_at_start_is_used(series, file):
    assert rows(series(file("t,v\n0,0\n1.5,1\n2,2\n"), ["v"], start=1.5)) == [(0, {"v": 1.0}), (S // 2, {"v": 2.0})]


def test_a_loop_has_the_median_step_at_its_seam(series, file):
    one = series(file("t,v\n0,0\n1,1\n2,2\n7,3\n"), ["v"], start=1, loop=True, speed=2.0)
    # used: 1, 2, 7; median step 3; one lap is 9 s of the file in 4.5 s
    times = [t / S for t, _ in rows(one, 9 * S)]
    assert times == [0, 0.5, 3, 4.5, 5, 7.5, 9, 9.5]


def test_a_loop_over_doubled_rows_keeps_every_row_of_each_lap_apart_from_the_next(series, file):
    one = series(file("t,v\n0,0\n0,1\n1,2\n1,3\n2,4\n2,5\n"), ["v"], loop=True)
    given_out = rows(one, 5 * S)
    assert [time / S for time, _ in given_out] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert [values["v"] for _, values in given_out] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]


def test_rows_out_of_order_are_sorted_and_equal_times_keep_their_order(series, file):
    one = series(file("t,v\n3,3\n1,1a\n2,2\n1,1b\n"), ["v"])
    assert [values["v"] for _, values in rows(one)] == ["1a", "1b", 2.0, 3.0]


def test_empty_cells_are_absent_and_what_is_no_number_stays_text(series, file):
    one = series(file("t,a,b\n0,1, \n1,,nan\n2,off,1_000\n3\n"), ["a", "b"])
    assert [values for _, values in rows(one)] == [{"a": 1.0}, {"b": "nan"}, {"a": "off", "b": "1_000"}, {}]


def test_columns_are_chosen_by_select_and_the_time_column_by_name(series, file):
    source = file("\ufeffvalue, when ,°C\n5,10,21\n6,11,22\n")
    one = series(source, {"t": {"select": "°C"}, "value": {}}, time_column="when")
    assert rows(one)[1] == (1 * S, {"t": 22.0, "value": 6.0})


def test_a_foreign_encoding_in_another_column_does_no_harm(series, file):
    assert rows(series(file(b"t,v,\xb0C\n0,1,2\xb0\n"), ["v"])) == [(0, {"v": 1.0})]


def test_rows_without_a_readable_time_are_left_out_and_logged(series, file, caplog):
    one = series(file("t,v\n,0\n2013-07-04 00:00:00,1\n\nnan,2\n2013-07-04 00:00:01,3\n2013-07-0"), ["v"])
    assert [values["v"] for _, values in rows(one)] == [1.0, 3.0]
    assert "3 rows have no readable time" in caplog.text


@pytest.mark.parametrize(
    ("content", "keys", "says"),
    [
        ("", {}, "is empty; its first row must name the columns"),
        ("t,value\n0,1\n", {}, 'has no column "valu" in its first row; allowed: t, value; nearest: value'),
        ("t,valu\n0,1\n", {"time_column": "time"}, 'has no column "time" in its first row; allowed: t, valu'),
        ("t,valu\nx,1\ny,2\n", {}, 'has no readable time in column "t", found "y"; allowed: ISO 8601'),
        ("t,valu\n", {}, "found no row"),
        (
            "t,valu\n0,1\n1,2\n",
            {"start": 5.0},
            "start 5.0 is after the last row of csv:a.csv, whose times run from 0 to 1",
        ),
        (
            "t,valu\n2013-07-04 00:00:00,1\n",
            {"start": "2014-01-01"},
            "times run from 2013-07-04T00:00:00 to 2013-07-04T00:00:00",
        ),
        ("t,valu\n0,1\n", {"start": "noon"}, "start 'noon' is no time; ISO 8601"),
        ("t,valu\n0,1\n", {"start": 1e30}, "start 1e+30 is no time"),
        ("t,valu\n0,1\n0,2\n", {"loop": True}, "loop needs rows at two different times"),
        ("t,valu\n0," + "x" * 200_000 + "\n", {}, "is no CSV file"),
    ],
)
def test_a_file_that_does_not_fit_is_a_configuration_error(series, sensor, file, content, keys, says):
    source = file(content)
    for make in (series, sensor):
        with pytest.raises(ConfigError) as error:
            make(source, ["valu"], **keys)
        assert says in str(error.value)
        assert 'sensor "s"' in str(error.value)


MANY = ",".join(f"column {number}" for number in range(5_000))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x7fELF\x02\x01\x00\x00\r\x08,\xff\x1b[2J\n" * 900, "is no CSV file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(1, 256)) * 30, "PNG"),
        (b"\xff\xfe" + "t,valu\n0,1\n".encode("utf-16-le"), "is no CSV file"),
        (b'"a\nb",\xc2\x9b' + b"\xe2\x80\xae" * 3_000 + b"\n0,1\n", r"allowed: \x9b\u202e"),
        (b"t," + b"x" * 100_000 + b"\n0,1\n", "x..."),
        (MANY.encode() + b",value\n0,1\n", "nearest: value; 4988 more columns are not shown"),
        (b"t" * 100_000 + b",valu\nx,1\n", 'ttt...", found "x"'),
        (b"t,valu\n\x1b[2J" + b"z" * 100_000 + b",1\n", r'found "\x1b[2Jzzz'),
    ],
    ids=range(8),
)
def test_whatever_a_file_holds_the_error_is_one_short_line_of_plain_characters(series, file, content, says):
    with pytest.raises(ConfigError) as error:
        series(file(content), ["valu"])
    assert says in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1_600


def test_a_missing_file_is_a_device_error(series, sensor, file, tmp_path):
    with pytest.raises(DeviceError, match=f"there is no file {tmp_path}/a.csv"):
        series("csv:a.csv", ["v"])
    one = sensor("csv:a.csv", ["v"])
    with pytest.raises(DeviceError, match=f"there is no file {tmp_path}/a.csv"):
        one.open()
    with pytest.raises(DeviceError, match="is not open"):
        one.read(0.01)
    file("t,w\n0,1\n")
    with pytest.raises(DeviceError, match='no column "v"'):
        one.open()
    file("t,v\n0,1\n")
    one.open()
    assert one.read(1).values == {"v": 1.0}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_a_device_error(series, file, tmp_path):
    source = file("t,v\n0,1\n")
    (tmp_path / "a.csv").chmod(0)
    with pytest.raises(DeviceError, match="can't be read"):
        series(source, ["v"])


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2013-07-04", "2013-07-04T00:00:00"),
        ("2013-07-04 01:02:03", "2013-07-04T01:02:03"),
        (" 2013-07-04T01:02:03Z ", "2013-07-04T01:02:03"),
        ("2013-07-04T01:02:03+02:00", "2013-07-03T23:02:03"),
        ("2013-07-04T01:02:03+0200", "2013-07-03T23:02:03"),
        ("2013-07-04T01:02:03-02", "2013-07-04T03:02:03"),
        ("2013-07-04T01:02:03.5Z", "2013-07-04T01:02:03.5"),
        ("2013-07-04T01:02:03.123456789Z", "2013-07-04T01:02:03.123456789"),
        ("2013-07-04 01:02:03,1234567+0200", "2013-07-03T23:02:03.1234567"),
        ("2013-07-04 01:02:03.9999999999", "2013-07-04T01:02:04"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999"),
        ("1372899723.25", "2013-07-04T01:02:03.25"),
    ],
)
def test_times_without_a_zone_are_utc_and_all_usual_forms_are_read(text, utc):
    assert parse_time(text) == np.datetime64(utc, "ns").astype(int)


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1700000000.1", 1_700_000_000_100_000_000),
        (" 1700000000.123456789 ", 1_700_000_000_123_456_789),
        ("-0.000000001", -1),
        ("-1.5", -1_500_000_000),
        (".25", 250_000_000),
        ("5.", 5 * S),
        ("1.7000000001e9", 1_700_000_000_100_000_000),
        ("1E-9", 1),
        ("0.00000000149", 1),
        ("1e-400", 0),
    ],
)
def test_a_number_of_seconds_is_read_to_the_nanosecond(text, time_ns):
    assert parse_time(text) == time_ns


@given(time_ns=st.integers(-(2**63) + 1, 2**63 - 1))
def test_every_nanosecond_that_64_bits_hold_survives_as_a_number_of_seconds(time_ns):
    whole, rest = divmod(abs(time_ns), S)
    assert parse_time(f"{'-' if time_ns < 0 else ''}{whole}.{rest:09}") == time_ns


@pytest.mark.parametrize(
    "text", ["", "inf", "-Infinity", "nan", "sNaN", "1e19", "1e999999999", "1e9999999999999999999"]
)
def test_what_is_no_time_or_too_far_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@pytest.mark.parametrize("start", [1700000000.1, "1700000000.1", "1.7000000001e9", "2023-11-14T22:13:20.1Z"])
def test_unix_times_with_decimals_fall_exactly_on_their_media_time(series, file, start):
    one = series(file("t,v\n1700000000.1,1\n1700000000.2,2\n1700000000.3,3\n1700000001.1,4\n"), ["v"], start=start)
    assert [time for time, _ in rows(one)] == [0, 100_000_000, 200_000_000, 1 * S]


def test_a_whole_start_finds_its_row(series, file):
    assert rows(series(file("t,v\n1700000000,1\n1700000001,2\n"), ["v"], start=1700000001)) == [(0, {"v": 2.0})]


steps = st.lists(st.integers(0, 5_000), min_size=2, max_size=40).filter(lambda steps: any(steps[1:]))


@given(steps=steps, asked=st.lists(st.integers(0, 20_000), max_size=30), loop=st.booleans())
def test_however_the_media_time_advances_every_row_comes_once_in_order_and_in_time(steps, asked, loop):
    at, lines = 0, ["ms,v"]
    for number, step in enumerate(steps):
        at += step
        lines.append(f"{at / 1000},{number}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.csv").write_text("\n".join(lines))
        series = create_series(sensor_config("csv:a.csv", ["v"], loop=loop, timeline="media"), Path(folder))
    given_out = []
    for media_ms in sorted(asked):
        given_out += series.until(media_ms * 10**6)
        times = [row.mono_ns for row in given_out]
        assert times == sorted(times)
        assert sum(time > media_ms * 10**6 for time in times) <= 1
        if loop:
            assert times[-1] > media_ms * 10**6
    assert [row.values["v"] for row in given_out] == [number % len(steps) for number in range(len(given_out))]


def test_live_rows_come_in_real_time_stamped_with_their_own(sensor, file, clock):
    one = sensor(file("t,v\n0,0\n10,1\n20,2\n"), ["v"], speed=1000.0)
    before = clock.monotonic_ns()
    one.open()
    samples = [one.read(20) for _ in range(3)]
    assert [sample.values["v"] for sample in samples] == [0.0, 1.0, 2.0]
    assert before <= samples[0].mono_ns
    assert samples[2].mono_ns - samples[0].mono_ns == 20_000_000
    assert samples[2].mono_ns <= clock.monotonic_ns()
    assert one.read(0.01) is None
    assert one.read(0.01) is None


def test_a_live_row_that_is_not_due_is_not_given(sensor, file):
    one = sensor(file("t,v\n0,0\n3600,1\n"), ["v"])
    one.open()
    assert one.read(1) is not None
    assert one.read(0.01) is None


def test_a_reopened_replay_goes_on_where_the_time_is(sensor, file):
    one = sensor(file("t,v\n0,0\n3600,1\n"), ["v"])
    one.open()
    assert one.read(1).values == {"v": 0.0}
    one.close()
    one.open()
    assert one.read(0.01) is None


def test_stopping_ends_the_wait(sensor, file, stopping):
    one = sensor(file("t,v\n5,0\n3600,1\n"), ["v"], start=0)
    one.open()
    stopping.set()
    assert one.read(3600) is None


def test_a_year_of_real_readings_is_loaded_and_keeps_its_gaps(series, shared):
    office = shared / "sensors/ambient_temperature_system_failure.csv"
    one = series(f"csv:{office}", {"t": {"select": "value"}}, start="2013-12-22 20:00:00", speed=3600.0)
    beginning = rows(one, 2 * S)
    assert [time / S for time, _ in beginning] == [0, 1, 2, 3]
    rest = rows(one)
    assert len(beginning) + len(rest) == 3546
    assert all(isinstance(values["t"], float) for _, values in rest)
    gaps = {(b - a) / S for (a, _), (b, _) in pairwise(rest)}
    assert min(gaps) == 1
    assert max(gaps) > 1

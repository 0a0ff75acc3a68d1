import os
import pty

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.line_formats import LINE_BYTES_MOST, Line, LineBuffer


class Plug:
    """A pseudo-terminal behind a link that stays, as udev's /dev/serial/by-id does."""

    def __init__(self, link):
        self.link = link
        self.device = None

    def plug_in(self):
        self.device, terminal = pty.openpty()
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(terminal))
        self._terminal = terminal

    def send(self, content: bytes):
        os.write(self.device, content)

    def unplug(self):
        if self.device is not None:
            os.close(self._terminal)
            os.close(self.device)
            self.link.unlink()
            self.device = None


@pytest.fixture
def plug(tmp_path):
    plug = Plug(tmp_path / "ttyUSB0")
    plug.plug_in()
    yield plug
    plug.unplug()


@pytest.fixture
def opened(sensor, plug):
    """An open sensor that is past the first line end, which it can't trust."""

    def make(fields, query="", **keys):
        one = sensor(f"serial:{plug.link}{query}", fields, **keys)
        one.open()
        plug.send(b"\n")
        assert one.read(0.05) is None
        return one

    return make


def test_json_lines_become_samples(opened, plug, clock):
    sensor = opened({"t": {"select": "env.t"}, "n": {}})
    before = clock.monotonic_ns()
    plug.send(b'{"env": {"t": 21.5}, "n": 3}\r\n')
    sample = sensor.read(10)
    assert sample.values == {"t": 21.5, "n": 3}
    assert before <= sample.mono_ns <= clock.monotonic_ns()


def test_a_bare_number_is_the_only_field_of_a_json_line(opened, plug):
    sensor = opened(["t"])
    plug.send(b"21.5\n")
    assert sensor.read(10).values == {"t": 21.5}


def test_a_pattern_gives_its_groups_as_text(opened, plug):
    sensor = opened({"t": {}, "humidity": {"select": "h"}}, format="regex", pattern=r"T=(?P<t>\S+)( H=(?P<h>\S+))?")
    plug.send(b"T=21.5 H=40%\nT=22\n")
    assert sensor.read(10).values == {"t": "21.5", "humidity": "40%"}
    assert sensor.read(10).values == {"t": "22"}


def test_columns_are_chosen_by_number_or_by_the_names_in_the_source(opened, plug):
    fields = {"first": {"select": "0"}, "t": {}}
    sensor = opened(fields, "?baud=115200&parity=even&stopbits=2&bytesize=7&columns=id,h,t", format="csv")
    plug.send(b'7, 40 ,21.5\n"8",41,\n')
    assert sensor.read(10).values == {"first": "7", "t": "21.5"}
    assert sensor.read(10).values == {"first": "8"}


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        (b"boot ok", {}),
        (b"21.5", {}),
        (b"21.5", {"format": "regex", "pattern": r"T=(?P<a>\d+) (?P<b>\d+)"}),
        (b",,", {"format": "csv"}),
        (b"\xff\xfe{", {}),
    ],
)
def test_a_line_that_can_not_be_read_makes_every_field_say_so_and_never_passes_for_a_number(opened, plug, line, keys):
    fields = {"a": {"select": "0"}, "b": {"select": "1"}} if keys.get("format") == "csv" else ["a", "b"]
    sensor = opened(fields, **keys)
    plug.send(line + b"\n")
    values = sensor.read(10).values
    assert values == dict.fromkeys(["a", "b"], f"unreadable: {line.decode(errors='replace')}")


def test_an_endless_line_is_reported_once_and_cut_and_the_next_line_is_read(opened, plug):
    sensor = opened(["t"])
    for _ in range(3):
        plug.send(b"1" * 3000)
        sample = sensor.read(0.05)
        if sample is not None:
            assert sample.values == {"t": f"unreadable: {'1' * 80}"}
            break
    else:
        pytest.fail("9,000 bytes without a line end were no sample")
    plug.send(b"111\n21.5\n")
    assert sensor.read(10).values == {"t": 21.5}


def test_the_line_that_was_going_on_at_open_is_dropped(sensor, plug):
    one = sensor(f"serial:{plug.link}", ["t"])
    one.open()
    plug.send(b"3.5\n21.5\n")
    assert one.read(10).values == {"t": 21.5}


def test_a_line_that_arrives_in_pieces_over_several_reads_is_whole(opened, plug):
    sensor = opened(["t"])
    for piece in (b'{"t"', b": 21", b".5}"):
        plug.send(piece)
        assert sensor.read(0.02) is None
    plug.send(b"\n")
    assert sensor.read(10).values == {"t": 21.5}


def test_silence_is_no_error(opened):
    assert opened(["t"]).read(0.01) is None


def test_an_unplugged_port_is_lost_and_can_be_opened_when_it_is_back(opened, plug):
    sensor = opened(["t"])
    plug.send(b"21")
    plug.unplug()
    with pytest.raises(DeviceError, match=r'sensor "s": source ".*" is lost'):
        for _ in range(3):
            sensor.read(1.0)
    sensor.close()
    with pytest.raises(DeviceError, match="is not there; attach it"):
        sensor.open()
    with pytest.raises(DeviceError, match="is not open"):
        sensor.read(0.01)
    plug.plug_in()
    sensor.open()
    plug.send(b"5.5\n22.5\n")
    assert sensor.read(10).values == {"t": 22.5}


def test_a_port_that_another_program_holds_is_in_use(opened, sensor, plug):
    opened(["t"])
    with pytest.raises(DeviceError, match="in use by another program"):
        sensor(f"serial:{plug.link}", ["t"]).open()


def test_something_that_is_no_port_is_a_device_error(sensor, tmp_path):
    (tmp_path / "file").write_text("21.5\n")
    with pytest.raises(DeviceError, match="can't be opened"):
        sensor(f"serial:{tmp_path}/file", ["t"]).open()


def test_closing_twice_is_allowed(opened):
    sensor = opened(["t"])
    sensor.close()
    sensor.close()


@pytest.mark.parametrize(
    ("query", "keys", "says"),
    [
        (
            "?bauds=9600",
            {},
            'unknown query key "bauds"; allowed: baud, bytesize, columns, parity, stopbits; nearest: baud',
        ),
        ("?baud=fast", {}, 'has baud "fast"; allowed: a whole number'),
        ("?parity=E", {}, 'has parity "E"; allowed: even, mark, none, odd, space'),
        ("?stopbits=3", {}, 'has stopbits "3"; allowed: 1, 1.5, 2'),
        ("?bytesize=9", {}, 'has bytesize "9"; allowed: 5, 6, 7, 8'),
        ("?baud", {}, "malformed query"),
        ("?columns=a,b", {}, 'needs format = "csv", found "json"'),
        ("", {"format": "regex"}, "no pattern"),
        ("", {"pattern": "(?P<t>.*)"}, 'needs format = "regex"'),
        ("", {"format": "regex", "pattern": "("}, "no regular expression"),
        ("", {"format": "regex", "pattern": "(?P<temp>.*)"}, 'field "t": pattern has no group "t"; allowed: temp'),
        ("?columns=a,b", {"format": "csv"}, 'select "t" is no column; allowed: a number from 0 on, or a name'),
    ],
)
def test_a_source_that_does_not_fit_is_refused_before_any_port_is_opened(sensor, query, keys, says):
    with pytest.raises(ConfigError) as error:
        sensor(f"serial:/dev/ttyUSB0{query}", ["t"], **keys)
    assert says in str(error.value)


lines = st.lists(st.binary(min_size=1, max_size=50).filter(lambda line: line.strip() and not {10, 13} & set(line)))


@given(lines=lines, end=st.sampled_from([b"\n", b"\r", b"\r\n"]), data=st.data())
def test_lines_come_out_whole_and_in_order_however_the_bytes_are_cut(lines, end, data):
    stream = end.join([b"partial", *lines, b""])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    buffer = LineBuffer()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [line for piece in pieces for line in buffer.feed(piece)] == [Line(line) for line in lines]


@given(chunks=st.lists(st.binary(max_size=3000)))
def test_no_stream_makes_the_buffer_grow(chunks):
    buffer = LineBuffer()
    for chunk in chunks:
        assert all(len(line.content) <= LINE_BYTES_MOST for line in buffer.feed(chunk))
        assert len(buffer._held) <= LINE_BYTES_MOST

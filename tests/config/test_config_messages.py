"""What an operator reads when the file is wrong. Each row: what is changed in a good file, what is said."""

import pytest

from edge_agent.errors import ConfigError
from tests.config.configurations import COMPLETE, build

SHAPES = [
    # unknown keys
    ("width = 640", "widht = 640", 'camera[0].widht: unknown key; did you mean "width"? allowed: "name", "source", '),
    ("[delegate.quick]", "[delegates.quick]", 'delegates: unknown key; did you mean "delegate"? allowed: "device", '),
    ("keepalive =", "password =", "mqtt.password: unknown key; secrets do not belong in this file: put it alone into"),
    ('id = "line3-cam1"', "token = 1", "device.token: unknown key; secrets do not belong in this file: leave it out"),
    ('unit = "g"', "scael = 2", 'sensor[0].fields.vibration.scael: unknown key; did you mean "scale"?'),
    # values of the wrong type or out of bounds
    ("width = 640", "width = 0", "camera[0].width = 0: expected a whole number from 1 to 16384"),
    (
        "width = 640",
        'width = "640"',
        'camera[0].width = "640": expected a whole number from 1 to 16384, without quotes',
    ),
    ("width = 640", "width = 1e3", "camera[0].width = 1000.0: expected a whole number from 1 to 16384"),
    ("width = 640", "width = 99999999999999999999", "camera[0].width = 99999999999999999999: expected a whole number"),
    ("fps = 30", "fps = 0", "camera[0].fps = 0: expected a number above 0 up to 1000"),
    ("fps = 30", "fps = nan", "camera[0].fps = nan: expected a finite number"),
    ("fps = 30", "loop = 1", "camera[0].loop = 1: expected true or false"),
    ("fps = 30", 'pace = "fast"', 'camera[0].pace = "fast": expected "max" or "media"'),
    ("fps = 30", "timeout = 5", 'camera[0].timeout = 5: expected a time with its unit as text, such as "200ms"'),
    ("fps = 30", 'timeout = "5 seconds"', 'camera[0].timeout = "5 seconds": expected a time with its unit as text'),
    ("fps = 30", 'timeout = "99999d"', 'camera[0].timeout = "99999d": expected a time of at most 3650d'),
    ("fps = 30", f'timeout = "{"9" * 400}d"', "…: expected a time with its unit as text"),
    (
        'rate = "10/s"',
        'rate = "10 fps"',
        'pipeline[0].rate = "10 fps": expected "max", or a number of frames over a time',
    ),
    ('rate = "10/s"', "threshold = 2", "pipeline[0].threshold = 2: expected a number from 0 to 1"),
    (
        'attach = ["ambient"]',
        "publish.deadband = -1",
        "pipeline[1].publish.deadband = -1: expected a number from 0 upwards",
    ),
    ("range = [0, 16]", "range = [0]", "sensor[0].fields.vibration.range = [0]: expected a list of 2 numbers"),
    ("range = [0, 16]", "range = [nan, 1]", "sensor[0].fields.vibration.range[0] = nan: expected a finite number"),
    (
        "start = ",
        "start = 2013-12-22 #",
        "sensor[1].start = 2013-12-22: expected text or a number; write the date or time",
    ),
    ('level = "2"', "level = 2", "delegate.quick.options.level = 2: expected text"),
    ('"edgetpu", "quick"', '"edgetpu", 3', "model.conveyor.delegates[1] = 3: expected text"),
    # names
    (
        'name = "front"',
        'name = "Front"',
        'camera[0].name = "Front": expected a name of at most 63 lower case letters, ',
    ),
    ('name = "front"', 'name = "front\\n"', 'camera[0].name = "front\\n": a control character, a tab or the end of a'),
    ('id = "line3-cam1"', 'id = "Line3"', 'device.id = "Line3": expected at most 63 lower case letters, digits and -'),
    ('"machine.vibration"', '"vibration"', 'features.vibration = "vibration": expected a sensor and one of its fields'),
    (
        'host = "127',
        'base_topic = "a/#"\nhost = "127',
        'mqtt.base_topic = "a/#": expected a topic of at most',
    ),
    ("[model.conveyor]", "[model.Big]\npath='a'\n[model.conveyor]", "model.Big: expected a name of at most 63 lower"),
    ("[model.conveyor]", '[model."a b"]\npath="a"\n[model.conveyor]', 'model."a b": expected a name of at most 63'),
    (
        "[sensor.fields.vibration]",
        '[sensor.fields."v.1"]',
        'sensor[0].fields."v.1": expected a name of letters, digits,',
    ),
    # tables where values belong, and the reverse
    ("[mqtt]", "[[mqtt]]", "mqtt = [a table]: expected one table, begun by [mqtt]"),
    ('[[pipeline]]\nname = "replay"', '[pipeline]\nname = "replay"', "not valid TOML: Cannot declare"),
    (
        "[pipeline.align]\nmax_skew",
        "align",
        'pipeline[0].align = "200ms": expected one table, begun by [pipeline.align]',
    ),
    ("[model.conveyor]", "[model]", 'model.path = "factory.tflite": expected a table for each model, begun by [model.'),
    ('path = "factory.tflite"', "", "model.conveyor.path: missing; [model.conveyor] needs it: text"),
    ('source = "file:belt.mp4"', "", "camera[1].source: missing; [[camera]] needs it: text"),
    # TOML itself
    ("width = 640", "width 640", "line 13, column 7: not valid TOML: Expected '=' after a key in a key/value pair"),
    ("width = 640", "width = 640\nwidth = 1", "line 14, column 10: not valid TOML: Cannot overwrite a value"),
]

MEANINGS = [
    # names that refer to nothing
    (
        'camera = "front"',
        'camera = "frnt"',
        'pipeline[0].camera = "frnt": no such camera; did you mean "front"? known: "',
    ),
    ('model = "conveyor"', 'model = "x"', 'pipeline[0].model = "x": no such model; known: "conveyor"'),
    ('"machine.vibration"', '"machine.speed"', "no sensor has that field; known:"),
    ('"machine.vibration"', '"machine.vibratio"', 'no sensor has that field; did you mean "machine.vibration"? known:'),
    ('attach = ["ambient"]', 'attach = ["abient"]', 'attach[0] = "abient": no such sensor; did you mean "ambient"?'),
    ('attach = ["ambient"]', 'images.side = "sied"', 'pipeline[1].images.side = "sied": no such camera; known: "front'),
    ('"edgetpu", "quick"', '"edgetup", "quick"', 'delegates[0] = "edgetup": no such back-end; did you mean "edgetpu"?'),
    # said twice
    ('name = "clip"', 'name = "front"', 'camera[1].name = "front": camera[0] has that name already'),
    ('name = "replay"', 'name = "inspect"', 'pipeline[1].name = "inspect": pipeline[0] has that name already'),
    ('attach = ["ambient"]', 'attach = ["ambient", "ambient"]', 'pipeline[1].attach: "ambient" is there twice'),
    ('{ vibration = "machine.vibration" }', '{ a = "machine.vibration", b = "machine.vibration" }', "is there twice"),
    ('"edgetpu", "quick"', '"cpu", "quick"', 'model.conveyor.delegates: "cpu" is there twice'),
    # sources
    ("v4l2:/dev/video0", "/dev/video0", 'no such kind of source; did you mean "v4l2:/dev/video0"?'),
    ("file:belt.mp4", "belt.mp4", 'no such kind of source; did you mean "file:belt.mp4"?'),
    ("csv:office.csv", "office.csv", 'no such kind of source; did you mean "csv:office.csv"?'),
    (
        "v4l2:/dev/video0",
        "vl42:/dev/video0",
        'no such kind of source; did you mean "v4l2"? a source begins with one of:',
    ),
    ("file:belt.mp4", "file:", 'camera[1].source = "file:": nothing follows "file:"'),
    ("v4l2:/dev/video0", "rtsp://me:hunter2@cam/1", "camera[0].source: a password does not belong into an address"),
    ("fps = 30", 'username = "me"', "camera[0].username: only for sources on the network"),
    ('v4l2:/dev/video0"', "rtsp://cam/1\"\npassword_file = 'x'", "camera[0].password_file: there is no username"),
    ("fps = 30", "loop = true", 'camera[0].loop = true: only for file: and images:; "front" is live'),
    ("fps = 30", 'pace = "max"', 'camera[0].pace = "max": only for file: and images:; "front" is live'),
    ('format = "regex"', 'timeline = "media"', 'timeline = "media": only for csv: sources; "machine" is live'),
    ('format = "regex"', "speed = 2", 'sensor[0].speed = 2.0: only for csv: sources; "machine" is live'),
    ('format = "regex"', "loop = true", "sensor[0].loop = true: only for csv: sources"),
    ('format = "regex"', 'start = "1"', 'sensor[0].start = "1": only for csv: sources'),
    ('format = "regex"', "", 'sensor[0].pattern: only for format = "regex", and format is "json"'),
    ("pattern =", "# ", 'sensor[0].pattern: missing; format = "regex" needs it'),
    ("v=(?P<vibration>", "v=(", 'sensor[0].pattern: no group (?P<vibration>…) for the field "vibration"; groups: none'),
    ("[0-9.]+)", "[0-9.]+", "not a regular expression: missing ), unterminated subpattern"),
    ("range = [0, 16]", "range = [16, 0]", "range = [16.0, 0.0]: the first number must be below the second"),
    # clocks
    (
        'camera = "clip"',
        'camera = "front"',
        'sensor "ambient" has timeline = "media", which needs a file: or images: camera',
    ),
    # durations
    ('keepalive = "20s"', 'keepalive = "1d"', 'mqtt.keepalive = "1d": expected a time from 1s to 65535s'),
    ("fps = 30", 'timeout = "0s"', 'camera[0].timeout = "0s": expected a time from 100ms to 1h'),
    ('rate = "10/s"', 'rate = "0.001/h"', 'pipeline[0].rate = "2.77778e-07/s": less than one frame a day'),
    ("[mqtt]", "[outbox]\npath = ''\n[mqtt]", 'outbox.path = "": expected the path of a file'),
    ("[mqtt]", "[outbox]\nmemory = '1kB'\n[mqtt]", 'outbox.memory = "1000B": expected at least "64KiB"'),
    (
        "[mqtt]",
        "[update]\nrepository = 'ftp://x'\n[mqtt]",
        'update.repository = "ftp://x": expected "https://HOST/PATH"',
    ),
    ("[mqtt]", "[update]\nwindow = '2-5'\n[mqtt]", 'update.window = "2-5": expected two times of the day in UTC'),
    ("[mqtt]", "[update]\npoll = '1s'\n[mqtt]", 'update.poll = "1s": expected a time from 10s'),
    ("[mqtt]", "[update.tls]\nkey = 'k'\n[mqtt]", "update.tls.certificate: missing"),
    # the broker
    ('host = "127.0.0.1"', 'host = "10.0.0.2"', "add [mqtt.tls], or write insecure = true to accept that"),
    ('host = "127.0.0.1"', 'host = "mqtt://broker"', "expected a host name or an address"),
    ('keepalive = "20s"', 'password_file = "x"', "mqtt.password_file: there is no username to go with it"),
    (
        '[[camera]]\nname = "front"',
        "[mqtt.tls]\ncertificate = 'c'\n[[camera]]\nname = \"front\"",
        "mqtt.tls.key: missing",
    ),
    (
        '[[camera]]\nname = "front"',
        "[mqtt.tls]\nkey = 'k'\n[[camera]]\nname = \"front\"",
        "mqtt.tls.certificate: missing",
    ),
    ('keepalive = "20s"', 'base_topic = "/plant"', 'mqtt.base_topic = "/plant": must not begin with $, begin or end'),
    # back-ends
    ("[delegate.quick]", "[delegate.cpu]", 'delegate.cpu: "cpu" is built in; give the library another name'),
    ('["edgetpu", "quick", "cpu"]', "[]", "model.conveyor.delegates: empty; leave it out for the profile's order"),
    ('library = "/usr/lib/libquick.so"', 'library = ""', "delegate.quick.library: empty"),
    ('library = "/usr/lib/libquick.so"', "", "delegate.quick.library: missing; name the shared library"),
    (
        '[delegate.quick]\nlibrary = "/usr/lib/libquick.so"',
        '[delegate.quick]\nkind = "edgetpu"\noptions.device = "usb1"\n[delegate.x]\nlibrary = "x.so"',
        'delegate.quick.options.device = "usb1": expected "usb", "pci", "usb:0", "pci:0" or ":0"',
    ),
    ('library = "/usr/lib/libquick.so"', 'kind = "gpu"', 'delegate.quick.kind = "gpu": expected "edgetpu"'),
    ('path = "factory.tflite"', 'path = ""', "model.conveyor.path: empty; name the .tflite or .onnx file"),
]


@pytest.mark.parametrize(("good", "bad", "said"), SHAPES + MEANINGS)
def test_a_mistake_is_named_with_its_key_its_value_and_what_is_allowed(good, bad, said):
    text = COMPLETE.replace(good, bad, 1)
    assert text != COMPLETE
    with pytest.raises(ConfigError) as raised:
        build(text)
    message = str(raised.value)
    assert message.startswith("agent.toml: ")
    assert said in message
    assert "\n" not in message


def test_media_time_and_live_time_never_meet_in_one_pipeline():
    fast = COMPLETE.replace('file:belt.mp4"', 'file:belt.mp4"\npace = "max"')
    build(fast)
    live = fast.replace('timeline = "media"', "")
    with pytest.raises(ConfigError, match='pace = "max" and runs on media time, sensor "ambient" is live'):
        build(live)
    mixed = fast.replace('attach = ["ambient"]', 'attach = ["ambient"]\nimages.side = "front"')
    with pytest.raises(ConfigError, match="cameras of one pipeline must run on the same time"):
        build(mixed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("camera = 3", "camera = 3: expected tables, each begun by [[camera]]"),
        ('camera = ["x"]', 'camera[0] = "x": expected one table, begun by [[camera]]'),
        ('device = "x"', 'device = "x": expected one table, begun by [device]'),
    ],
)
def test_a_table_is_asked_for_by_the_line_that_begins_it(text, said):
    with pytest.raises(ConfigError) as raised:
        build(text)
    assert str(raised.value) == f"agent.toml: {said}"


@pytest.mark.parametrize("host", ["localhost", "127.3.2.1", "::1", "LOCALHOST."])
def test_this_very_machine_needs_no_tls(host):
    build(COMPLETE.replace("127.0.0.1", host))


@pytest.mark.parametrize("host", ["broker.example", "localhost.example", "192.168.1.1", "fe80::1"])
def test_another_machine_needs_tls_or_a_written_consent(host):
    there = COMPLETE.replace("127.0.0.1", host)
    with pytest.raises(ConfigError, match="everybody on the way can read and change what is sent"):
        build(there)
    build(there.replace("[mqtt]", "[mqtt]\ninsecure = true"))
    build(there.replace("[[camera]]", "[mqtt.tls]\n[[camera]]", 1))


def test_an_empty_file_says_what_the_least_is():
    with pytest.raises(ConfigError, match=r"camera: missing; at least one \[\[camera\]\], one \[model.NAME\] and one"):
        build("")


def test_a_sensor_without_fields_is_an_error():
    with pytest.raises(ConfigError, match=r"sensor\[2\]\.fields: empty; add \[sensor.fields.NAME\]"):
        build(COMPLETE + '[[sensor]]\nname = "empty"\nsource = "mqtt:a/b"\nfields = {}')


def test_the_first_of_several_mistakes_is_reported():
    text = COMPLETE.replace("width", "widht").replace("height", "heigth")
    with pytest.raises(ConfigError, match="widht") as raised:
        build(text)
    assert "heigth" not in str(raised.value)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, ".".join("a" * 5000) + " = 1", "a = " + "9" * 5000])
def test_absurd_nesting_and_numbers_are_configuration_errors_too(text):
    with pytest.raises(ConfigError):
        build(text)


def test_no_message_repeats_a_password():
    bad = (
        COMPLETE.replace("v4l2:/dev/video0", "rtsp://me:hunter2@cam/1"),
        COMPLETE.replace("v4l2:/dev/video0", "rtps://me:hunter2@cam/1"),
        COMPLETE.replace("v4l2:/dev/video0", "htp://cam/1?user=me&pwd=hunter2"),
        COMPLETE.replace("[mqtt]", '[mqtt]\npassword = "hunter2"'),
        COMPLETE.replace("[mqtt]", '[mqtt]\nport = "mqtt://me:hunter2@host"'),
    )
    for text in bad:
        with pytest.raises(ConfigError) as raised:
            build(text)
        assert "hunter2" not in str(raised.value)


WARNED = [
    ('max_skew = "200ms"', 'method = "interpolate"', 'pipeline[0].align.wait = "0s": a live reading after the frame'),
    (
        'serial:/dev/ttyUSB0?baud=9600"\nformat = "regex"\npattern = "v=(?P<vibration>[0-9.]+)',
        "command:./read",
        'pipeline[0].align.max_skew = "200ms": pipeline "inspect" takes the nearest reading, but sensor "machine" is '
        'asked every "1s", so many frames have none that near: set method = "hold" with max_age, or a larger max_skew',
    ),
    ("fps = 30", 'drop = "none"', 'camera[0].drop = "none": frames of a live camera grow old'),
    (
        'camera = "clip"\nmodel = "conveyor"\nattach = ["ambient"]',
        'camera = "clip"\nmodel = "conveyor"',
        'sensor: "ambient" is used by no pipeline',
    ),
    ('features = { vibration = "machine.vibration" }', "", 'sensor: "machine" is used by no pipeline'),
    ('"quick", ', "", 'delegate: "quick" is used by no model'),
    ("[model.conveyor]", "[model.spare]\npath='s.tflite'\n[model.conveyor]", 'model: "spare" is used by no pipeline'),
    ('keepalive = "20s"', "[mqtt.tls]", "mqtt.port = 1883: with [mqtt.tls] brokers listen on 8883"),
    ('keepalive = "20s"', "port = 8883", "mqtt.port = 8883: brokers expect TLS on 8883"),
    ('keepalive = "20s"', "insecure = true\nport = 8883\n[mqtt.tls]", "mqtt.insecure: has no effect beside [mqtt.tls]"),
    (
        "v4l2:/dev/video0",
        "gst:rtspsrc location=rtsp://me:x@cam ! appsink",
        "camera[0].source: a secret in this file: keep",
    ),
    ("v4l2:/dev/video0", "http://cam/shot?user=me&pwd=x", "camera[0].source: a secret in this file: keep"),
]


@pytest.mark.parametrize(("good", "odd", "said"), WARNED)
def test_what_is_likely_a_slip_is_a_warning_and_starts(good, odd, said):
    text = COMPLETE.replace(good, odd, 1)
    assert text != COMPLETE
    _, _, warnings = build(text)
    assert [w for w in warnings if said in w and w.startswith("agent.toml: ")], warnings


@pytest.mark.parametrize("source", ["command:./read", "hwmon:cpu", "iio:bme280"])
@pytest.mark.parametrize(
    ("interval", "align", "warned"),
    [
        ("401ms", 'max_skew = "200ms"', True),
        ("400ms", 'max_skew = "200ms"', False),
        ("1s", 'max_skew = "500ms"', False),
        ("1s", 'method = "hold"', False),
    ],
)
def test_a_polled_sensor_is_a_warning_where_frames_between_two_readings_get_none(source, interval, align, warned):
    old = 'source = "serial:/dev/ttyUSB0?baud=9600"\nformat = "regex"\npattern = "v=(?P<vibration>[0-9.]+)"'
    text = COMPLETE.replace(old, f'source = "{source}"\ninterval = "{interval}"')
    _, _, warnings = build(text.replace('max_skew = "200ms"', align))
    assert any("is asked every" in line for line in warnings) is warned

import threading

import paho.mqtt.client as mqtt
import pytest

from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.mqtt_topic import PAYLOAD_BYTES_MOST, QUEUE_MOST
from tests.simulators.waiting import wait_for


class Connection:
    """One connection to the real broker, in the form in which the agent offers it to sensors."""

    def __init__(self, port):
        self.granted = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_subscribe = lambda *_: self.granted.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def subscribe(self, topic, handler):
        self.client.message_callback_add(topic, lambda _c, _u, m: handler(m.topic, m.payload, m.retain))
        self.client.subscribe(topic, qos=1)
        assert self.granted.wait(20)

    def publish(self, topic, payload, retain=False):
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def connection(broker):
    connection = Connection(broker.port)
    yield connection
    connection.stop()


@pytest.fixture
def topic():
    return "plant/hall"


def test_fields_come_from_the_payload_by_path(sensor, connection, topic, clock):
    one = sensor(f"mqtt:{topic}", {"t": {"select": "env[0].t"}, "h": {}}, connection.subscribe)
    one.open()
    before = clock.monotonic_ns()
    connection.publish(topic, '{"env": [{"t": 21.5}], "h": "40"}')
    sample = one.read(20)
    assert sample.values == {"t": 21.5, "h": "40"}
    assert before <= sample.mono_ns <= clock.monotonic_ns()


def test_a_bare_number_is_the_only_fields_value_and_a_wildcard_may_be_used(sensor, connection, topic):
    one = sensor(f"mqtt:{topic}/+/t", ["t"], connection.subscribe)
    one.open()
    connection.publish(f"{topic}/kitchen/t", "21.5")
    assert one.read(20).values == {"t": 21.5}


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("unavailable", "unavailable"),
        ("", ""),
        (b"\xff\x00", "\ufffd\x00"),
        ('{"x": 1}', '{"x": 1}'),
        ("[1]", "[1]"),
        (b"1" * (PAYLOAD_BYTES_MOST + 1), "1" * 80),
        ("[" * 50_000, "[" * 80),
    ],
)
def test_a_payload_that_can_not_be_read_makes_the_field_say_so(sensor, connection, topic, payload, text):
    one = sensor(f"mqtt:{topic}", ["t"], connection.subscribe)
    one.open()
    connection.publish(topic, payload)
    assert one.read(20).values == {"t": f"unreadable: {text}"}


def test_a_retained_value_is_ignored_and_counted_since_its_age_is_unknown(sensor, connection, topic):
    connection.publish(topic, "20.5", retain=True)
    one = sensor(f"mqtt:{topic}", ["t"], connection.subscribe)
    one.open()
    wait_for(lambda: one.retained_ignored == 1, "the retained message arrives")
    connection.publish(topic, "21.5")
    assert one.read(20).values == {"t": 21.5}
    connection.publish(topic, "", retain=True)


def test_a_full_queue_keeps_the_newest_and_counts_the_others(sensor, connection, topic):
    one = sensor(f"mqtt:{topic}", ["t"], connection.subscribe)
    one.open()
    for number in range(QUEUE_MOST + 3):
        connection.client.publish(topic, str(number), qos=0)
    wait_for(lambda: one.overflows == 3, "three messages too many arrive")
    assert [one.read(20).values["t"] for _ in range(QUEUE_MOST)] == list(range(3, QUEUE_MOST + 3))


def test_silence_is_no_error(sensor, connection, topic):
    one = sensor(f"mqtt:{topic}", ["t"], connection.subscribe)
    one.open()
    assert one.read(0.01) is None


def test_a_reopened_sensor_hears_each_message_once_and_none_from_between(sensor, connection, topic):
    one = sensor(f"mqtt:{topic}", ["t"], connection.subscribe)
    one.open()
    one.close()
    connection.publish(topic, "1")
    connection.publish(topic, "2")
    # The broker's own thread hands over in order: when a later message is there, these two have been.
    heard = threading.Event()
    connection.subscribe(f"{topic}/end", lambda *_: heard.set())
    connection.publish(f"{topic}/end", "x")
    assert heard.wait(20)
    one.open()
    connection.publish(topic, "3")
    assert one.read(20).values == {"t": 3}
    assert one.read(0.05) is None


def test_without_a_connection_the_source_is_accepted_and_opening_says_what_is_missing(sensor):
    with pytest.raises(DeviceError, match="needs the broker's connection"):
        sensor("mqtt:plant/t", ["t"]).open()


@pytest.mark.parametrize(
    "topic", ["a/#/b", "#/a", "a+", "a+/b", "+a", "a/b#", "++", "a\x00b", "\x00\n" * 500, "a" * 65_536, "é" * 32_768]
)
def test_a_malformed_topic_is_refused_at_once_in_one_short_line(sensor, topic):
    with pytest.raises(ConfigError, match="is no topic; allowed: 1 to 65535 bytes") as error:
        sensor(f"mqtt:{topic}", ["t"])
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    "topic", ["a", "#", "+", "+/+/#", "a//b", "/a", "a b/°", "a" * 65_535, "é" * 32_767, "a/" * 32_767]
)
def test_every_topic_filter_of_the_standard_is_accepted(sensor, topic):
    sensor(f"mqtt:{topic}", ["t"])

"""What a PUBLISH weighs, whether a broker can take it, and what its answer means (OASIS MQTT 5.0, 2.1, 3.3 and 3.4)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.errors import RefusedError
from edge_agent.io.mqtt_client import NOT_AUTHORIZED, PAYLOAD_FORMAT_INVALID, TOPIC_NAME_INVALID
from edge_agent.outgoing import Refusal

TOPIC_BYTES_MOST: Final = 65_535
PACKET_BYTES_MOST: Final = 5 + 268_435_455  # the fixed header, and what the four bytes of length in it can say
_EXPIRY_BYTES: Final = 5  # identifier and four bytes

# The same message would meet the same answer. All others (quota, unspecified, packet id in use ...) may pass.
_FOR_GOOD: Final = frozenset({NOT_AUTHORIZED, TOPIC_NAME_INVALID, PAYLOAD_FORMAT_INVALID})


@lru_cache(maxsize=16)  # the same few on every message, and building one costs as much as packing it
def expiry(seconds: int) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = seconds
    return properties


def publish_bytes(topic_bytes: int, payload_bytes: int, *, qos: int, v5: bool, with_expiry: bool) -> int:
    """The whole packet on the wire, in bytes."""
    remaining = 2 + topic_bytes + payload_bytes + (2 if qos else 0)
    if v5:
        remaining += 1 + (_EXPIRY_BYTES if with_expiry else 0)
    return 1 + length_bytes(remaining) + remaining


def length_bytes(remaining: int) -> int:
    """How many bytes the packet's length takes: seven bits each."""
    return max(1, (remaining.bit_length() + 6) // 7)


@lru_cache(maxsize=256)
def _topic_bytes(topic: str) -> int:
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        raise RefusedError(f"topic {topic[:40]!r} is no UTF-8 text; check the names in it") from None
    if not 0 < size <= TOPIC_BYTES_MOST:
        raise RefusedError(f"topic {topic[:40]!r} has {size} bytes; MQTT takes 1 to {TOPIC_BYTES_MOST}")
    if any(character in topic for character in "+#\0"):
        raise RefusedError(f"topic {topic[:40]!r}: +, # and NUL are not allowed in the topic of a message")
    return size


def check(topic: str, payload_bytes: int, bytes_most: int, *, qos: int, v5: bool, with_expiry: bool) -> None:
    """Raises RefusedError for what this broker, or any, can't take. ``bytes_most``: its maximum packet size."""
    size = publish_bytes(_topic_bytes(topic), payload_bytes, qos=qos, v5=v5, with_expiry=with_expiry)
    if size > bytes_most:
        raise RefusedError(
            f"{topic}: the message has {size} bytes with its topic, the broker takes {bytes_most} at most; publish "
            "less in it or raise the broker's maximum packet size"
        )


def refusal(reason: ReasonCode) -> Refusal | None:
    """What a PUBACK's reason code means; None: the broker has the message (also where nobody has subscribed)."""
    if not reason.is_failure:
        return None
    return Refusal(str(reason), reason.value in _FOR_GOOD)

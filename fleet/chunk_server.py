"""A repository in pieces over MQTT, for devices that may open no other port: answers each device on its own topic.

One thread does everything. A question waits until what was answered before has left: a broker that is slow, or a device
that asks without end, costs no memory, and the devices take turns.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import NotThereError
from edge_agent.io.fetch.chunks import (
    CHUNK_BYTES_MOST,
    GOOD,
    MALFORMED,
    NOT_THERE,
    Get,
    Head,
    decode_get,
    encode_chunk,
)
from edge_agent.io.fetch.mqtt_line import send_at_once
from edge_agent.io.mqtt_client import LastError, connect, make_client, why_refused, why_unreachable
from fleet.served_files import ServedFiles

WAITING_MOST: Final = 8  # questions of one device; what comes beyond is asked again
DEVICES_MOST: Final = 1000  # that have a question waiting
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
LOOP_S: Final = 0.2
STOP_S: Final = 10.0
_DEVICE: Final = re.compile(r"[a-z0-9-]{1,63}")


class Served(Struct):
    """Since the start."""

    chunks: int = 0
    bytes: int = 0
    refused: int = 0  # paths that are not there, questions that make no sense
    overflowed: int = 0


class ChunkServer:
    """A context, or ``start`` and ``close``. ``say`` gets one line for each change of the connection, on the server's
    own thread."""

    def __init__(
        self, config: MqttConfig, folder: Path, repository: Path, client_id: str, say: Callable[[str], None]
    ) -> None:
        """Files of ``config`` are meant from ``folder``. Raises ConfigError."""
        self.served = Served()
        self.connected = threading.Event()
        self._files = ServedFiles(repository)
        self._config = config
        self._say = say
        self._waiting: OrderedDict[str, deque[bytes]] = OrderedDict()
        self._failure = ""
        self._error = LastError()
        self._stopping = threading.Event()
        self._client = make_client(config, folder, client_id)
        self._error.attach(self._client)
        send_at_once(self._client)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._granted
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._asked
        connect(self._client, config, 0)
        self._thread = threading.Thread(target=self._run, name="chunk server", daemon=True)

    def start(self) -> ChunkServer:
        """Connect in the background, again and again."""
        self._thread.start()
        return self

    def close(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def __enter__(self) -> ChunkServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            lasted = self._one_connection()
            self.connected.clear()
            self._waiting.clear()
            retry_s = RETRY_FIRST_S if lasted else min(RETRY_LAST_S, 2 * retry_s)
            self._stopping.wait(retry_s)

    def _one_connection(self) -> bool:
        """Until it is lost. Returns whether it was ever good."""
        self._error.error = None
        self._failure = ""
        good = False
        try:
            self._client.reconnect()
            while not self._stopping.is_set() and not self._failure:
                self._answer_waiting()
                ready = self._waiting and not self._client.want_write()
                if self._client.loop(0 if ready else LOOP_S) != paho.MQTT_ERR_SUCCESS:
                    break
                good |= self.connected.is_set()
        except (OSError, ValueError) as error:  # ValueError: a host name that can't be one
            self._error.error = error
        except Exception as error:  # noqa: BLE001  paho raises whatever a malformed packet brings about; it is said
            self._failure = f"the broker sent what MQTT does not allow ({type(error).__name__}: {error})"
        if self._stopping.is_set():
            self._client.disconnect()
            self._client.loop(0)  # closes the socket
        else:
            self._say(f"{self._failure or why_unreachable(self._config, self._error.error)}; trying again")
        return good

    def _answer_waiting(self) -> None:
        """The devices' questions in turn, as long as the network takes the answers at once."""
        end_s = time.monotonic() + LOOP_S
        while self._waiting and not self._client.want_write() and time.monotonic() < end_s:
            device, questions = self._waiting.popitem(last=False)
            answer = self._answer(questions.popleft())
            if questions:
                self._waiting[device] = questions
            if answer is not None:
                self._client.publish(f"{self._config.base_topic}/{device}/update/chunk", answer, qos=0)

    def _answer(self, payload: bytes) -> bytes | None:
        """None for what is no question."""
        try:
            get = decode_get(payload)
        except ValueError:
            self.served.refused += 1
            return None
        try:
            with self._files.open(get.path) as file:
                data = file.read(get.offset, min(get.length, CHUNK_BYTES_MOST))
                size = file.size
        except NotThereError:
            return self._refuse(get, NOT_THERE)
        except OSError:
            return self._refuse(get, MALFORMED)
        if get.offset > size or not (get.length or size == 0):
            return self._refuse(get, MALFORMED)
        self.served.chunks += 1
        self.served.bytes += len(data)
        return encode_chunk(Head(get.id, get.path, get.offset, size, GOOD), data)

    def _refuse(self, get: Get, status: int) -> bytes:
        self.served.refused += 1
        return encode_chunk(Head(get.id, get.path, get.offset, 0, status))

    # --- paho's callbacks, inside ``loop`` -------------------------------------------------------------------------

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._failure = why_refused(reason)
        else:
            client.subscribe(f"{self._config.base_topic}/+/update/get", qos=0)

    def _granted(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._failure = (
                f"the broker denies {self._config.base_topic}/+/update/get; give this user the right to read it"
            )
            return
        self.connected.set()
        self._say(f"connected to {self._config.host}:{self._config.port}")

    def _disconnected(self, _client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._failure = self._failure or f"the broker ended the connection: {reason}"

    def _asked(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        device = _device(message)
        if message.retain or device is None:  # a question that was kept would be answered at each start
            return
        if device not in self._waiting and len(self._waiting) >= DEVICES_MOST:
            self.served.overflowed += 1
            return
        questions = self._waiting.setdefault(device, deque())
        if len(questions) < WAITING_MOST:
            questions.append(bytes(message.payload))
        else:
            self.served.overflowed += 1


def _device(message: paho.MQTTMessage) -> str | None:
    try:
        name = message.topic.split("/")[-3]
    except UnicodeDecodeError:
        return None
    return name if _DEVICE.fullmatch(name) else None

"""How a paho client is made from the configuration, and what its errors mean to a person.

Whoever talks to a broker starts here: protocol, password, TLS, time-outs and wording are the same for all.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent import limits
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError
from edge_agent.io.secrets import credential_file, read_secret
from edge_agent.ports import MessageHandler

log = logging.getLogger("edge_agent")

CREDENTIALS = "mqtt"  # systemd's: mqtt-password, mqtt-certificate, mqtt-key
SESSION_EXPIRY_S = 300  # unacknowledged messages survive a reconnection; commands older than that are not delivered
CONNECT_TIMEOUT_S = 3.0  # for TCP, and again for each answer of the TLS handshake
RECONNECT_FIRST_S, RECONNECT_LAST_S = 1, 30

# Reason codes of MQTT 5 (OASIS MQTT 5.0, 2.4); paho translates the return codes of a 3.1.1 CONNACK to them.
UNSUPPORTED_PROTOCOL = 0x84
CLIENT_ID_NOT_VALID = 0x85
BAD_USER_NAME_OR_PASSWORD = 0x86
NOT_AUTHORIZED = 0x87
BANNED = 0x8A
SESSION_TAKEN_OVER = 0x8E
TOPIC_NAME_INVALID = 0x90
PAYLOAD_FORMAT_INVALID = 0x99

_HINTS = {
    UNSUPPORTED_PROTOCOL: 'set [mqtt] protocol = "3.1.1" (or "5")',
    CLIENT_ID_NOT_VALID: "check [mqtt] client_id",
    BAD_USER_NAME_OR_PASSWORD: "check [mqtt] username and password_file",
    NOT_AUTHORIZED: "check [mqtt] username and password_file (or the certificate), and what the broker allows them",
    BANNED: "ask whoever runs the broker",
}

# X509_V_ERR_* of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _SIGNATURE, _REVOKED = 9, 10, 7, 23
_UNKNOWN_AUTHORITY = frozenset({_SIGNATURE, 2, 18, 19, 20, 21, 24, 26, 30})
_OTHER_NAME = frozenset({62, 64})  # host name, IP address


def make_client(
    config: MqttConfig, folder: Path, client_id: str, *, manual_ack: bool = False, clean_session: bool = True
) -> paho.Client:
    """A client that is not connected yet. Files of the configuration are meant from ``folder``; ``clean_session`` is
    3.1.1's. Raises ConfigError (TLS files, password)."""
    v5 = config.protocol == "5"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if v5 else clean_session,
        protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
        manual_ack=manual_ack,
    )
    if config.username is not None:
        password_file = folder / config.password_file if config.password_file else None
        client.username_pw_set(config.username, read_secret(password_file, f"{CREDENTIALS}-password"))
    if config.tls is not None:
        try:
            client.tls_set(
                ca_certs=_path(folder, config.tls.ca),
                certfile=_path(folder, config.tls.certificate, f"{CREDENTIALS}-certificate"),
                keyfile=_path(folder, config.tls.key, f"{CREDENTIALS}-key"),
            )
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(
                f"[mqtt.tls]: the certificates can't be used: {error}; check ca, certificate and key"
            ) from None
    client.max_inflight_messages_set(limits.INFLIGHT_MOST)
    client.reconnect_delay_set(RECONNECT_FIRST_S, RECONNECT_LAST_S)
    client.connect_timeout = CONNECT_TIMEOUT_S
    return client


def connect(client: paho.Client, config: MqttConfig, session_expiry_s: int, *, resume: bool = False) -> None:
    """Say where to, for the loop that then connects. The broker keeps the session for ``session_expiry_s`` after a
    disconnection (MQTT 5). ``resume``: also take up the session that an earlier process left; otherwise the first
    connection of this client begins a new one."""
    arguments: dict[str, Any] = {}
    if config.protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_expiry_s
        arguments = {"properties": properties, "clean_start": False if resume else paho.MQTT_CLEAN_START_FIRST_ONLY}
    client.connect_async(config.host, config.port, round(config.keepalive.seconds), **arguments)


def _path(folder: Path, name: str | None, credential: str = "") -> str | None:
    path = credential_file(credential) if name is None and credential else name and folder / name
    return str(path) if path else None


def deliver(handlers: list[MessageHandler]) -> Callable[[paho.Client, Any, paho.MQTTMessage], None]:
    """The callback of a topic filter. What a handler raises is logged."""

    def hand_over(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        for handler in handlers:
            try:
                handler(message.topic, bytes(message.payload), message.retain)
            except Exception:  # what anybody can send must not end the connection that everything else goes over
                log.exception("a message on %s could not be handled", message.topic)

    return hand_over


def why_refused(reason: ReasonCode) -> str:
    """A CONNACK that says no, in one line."""
    return f"the broker refused the connection: {reason}; {_HINTS.get(reason.value, 'it is tried again')}"


def why_unreachable(config: MqttConfig, error: BaseException | None) -> str:
    """Why there is no connection to the broker's address, or no longer one, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _why_certificate(config, error)
    elif isinstance(error, ssl.SSLError):
        cause = _why_tls(error)
    else:
        cause = _why_network(config, error)
    return f"{config.host}:{config.port} can't be reached: {cause}"


def _why_network(config: MqttConfig, error: BaseException | None) -> str:
    text = str(getattr(error, "strerror", None) or error or "the connection was closed")
    if isinstance(error, socket.gaierror):
        return f"no address for this name ({text}); check [mqtt] host and the DNS"
    if isinstance(error, TimeoutError):  # socket.timeout is its other name
        return f"no answer within {CONNECT_TIMEOUT_S:g} s; check [mqtt] host and port, the network and its firewalls"
    if isinstance(error, ConnectionRefusedError):
        return f"{text}; is the broker running, are [mqtt] host and port right?"
    if isinstance(error, ConnectionError):
        tls = "does it want TLS" if config.tls is None else "does it speak TLS on this port, or want a certificate"
        return f"{text}; is it an MQTT broker, {tls} ([mqtt.tls])?"
    return text


def _why_certificate(config: MqttConfig, error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "the broker's certificate has expired; renew it there (or this device's clock is wrong)"
    if code == _NOT_YET_VALID:
        return "the broker's certificate is not valid yet; check this device's clock"
    if code in _OTHER_NAME:
        return (
            f"the broker's certificate is for another name than {config.host!r} ({error.verify_message}); check [mqtt] "
            "host, or issue the certificate for that name"
        )
    if code in _UNKNOWN_AUTHORITY:
        which = config.tls.ca if config.tls and config.tls.ca else "the system's authorities"
        return (
            f"the broker's certificate is not signed by {which} ({error.verify_message}); check [mqtt.tls] ca, or "
            "whether this is the right broker"
        )
    if code == _REVOKED:
        return "the broker's certificate is revoked; renew it there"
    return f"the broker's certificate can't be trusted: {error.verify_message}; check it and [mqtt.tls] ca"


def _why_tls(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return "this port does not speak TLS; check [mqtt] port (8883 is usual), or leave [mqtt.tls] out"
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return (
            f"the broker does not take this client's certificate ({reason.lower().replace('_', ' ')}); check "
            "[mqtt.tls] certificate and key"
        )
    return f"TLS with the broker failed: {reason.lower().replace('_', ' ')}; check [mqtt] port and [mqtt.tls]"


class LastError(logging.Handler):
    """The exception that ended a connection: paho hands it to its logger and to nobody else. ``attach`` once."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: BaseException | None = None

    def attach(self, client: paho.Client) -> None:
        logger = logging.Logger("mqtt", logging.ERROR)  # of its own: nothing of paho's reaches the program's log
        logger.addHandler(self)
        client.enable_logger(logger)

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.error = next((one for one in arguments if isinstance(one, BaseException)), self.error)

"""The broker: nothing secret or private travels in the clear unless the operator has written that it may."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from edge_agent.config.finding import Finding, at
from edge_agent.config.schema import Config, MqttConfig
from edge_agent.config.words import show

_PLAIN_PORT, _TLS_PORT = 1883, 8883  # as registered with IANA


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name or address; no name is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in ("localhost", "ip6-localhost", "ip6-loopback")


def _host(config: Config) -> Iterator[Finding]:
    host = config.mqtt.host
    if not host or re.search(r"[\s/]", host):
        hint = "the host alone; the port is mqtt.port, TLS is [mqtt.tls]"
        yield Finding(at("mqtt.host", host), f"expected a host name or an address: {hint}")


def _in_the_clear(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    if mqtt.tls is None and not mqtt.insecure and not is_loopback(mqtt.host):
        text = "not this machine, and without [mqtt.tls] everybody on the way can read and change what is sent"
        yield Finding(at("mqtt.host", mqtt.host), f"{text}: add [mqtt.tls], or write insecure = true to accept that")


def _credentials(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    if mqtt.password_file is not None and mqtt.username is None:
        yield Finding("mqtt.password_file", "there is no username to go with it: set mqtt.username")
    if mqtt.tls:
        for here, there in (("certificate", "key"), ("key", "certificate")):
            if getattr(mqtt.tls, here) is not None and getattr(mqtt.tls, there) is None:
                yield Finding(f"mqtt.tls.{there}", f"missing; mqtt.tls.{here} is set, and the two go together")


def _likely_slips(config: Config) -> Iterator[Finding]:
    mqtt: MqttConfig = config.mqtt
    if mqtt.tls and mqtt.insecure:
        yield Finding("mqtt.insecure", "has no effect beside [mqtt.tls]: certificates are verified", fatal=False)
    if mqtt.tls and mqtt.port == _PLAIN_PORT:
        text = f"with [mqtt.tls] brokers listen on {_TLS_PORT} as a rule"
        yield Finding(at("mqtt.port", mqtt.port), text, fatal=False)
    if not mqtt.tls and mqtt.port == _TLS_PORT:
        text = f"brokers expect TLS on {_TLS_PORT} as a rule: add [mqtt.tls]"
        yield Finding(at("mqtt.port", mqtt.port), text, fatal=False)


def _topic(config: Config) -> Iterator[Finding]:
    topic = config.mqtt.base_topic
    if topic.startswith("$") or "" in topic.split("/"):
        text = f"must not begin with $, begin or end with /, or have // in it, such as {show('plant-2/edge-agent')}"
        yield Finding(at("mqtt.base_topic", topic), text)


MQTT_CHECKS = (_host, _in_the_clear, _credentials, _likely_slips, _topic)

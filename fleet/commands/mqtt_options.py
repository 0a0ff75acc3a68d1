"""The options with which several subcommands are told of a broker, ``--mqtt-host`` and so on, and what they mean."""

from __future__ import annotations

import argparse
import re
from typing import Any

from edge_agent.config.checks_mqtt import is_loopback
from edge_agent.config.convert import convert
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError

_TLS = ("ca", "certificate", "key")


def add_mqtt(arguments: argparse.ArgumentParser, *, prefix: str = "mqtt-") -> None:
    """All of them, as ``--<prefix>host`` and so on; without a host there is no broker."""
    group = arguments.add_argument_group("broker")
    defaults = MqttConfig()

    def add(name: str, **options: Any) -> None:
        group.add_argument(f"--{prefix}{name}", dest=f"mqtt_{name.replace('-', '_')}", **options)

    add("host", metavar="HOST", help="the devices' broker")
    add("port", type=int, default=defaults.port, metavar="PORT", help=f"default {defaults.port}")
    add("protocol", choices=["5", "3.1.1"], default=defaults.protocol, help="of MQTT (default 5)")
    add("username", metavar="NAME")
    add("password-file", metavar="FILE", help="text file with the password alone")
    add("tls", action="store_true", help="TLS with the system's authorities")
    add("ca", metavar="FILE", help="TLS with this authority's certificate")
    add("certificate", metavar="FILE", help=f"client certificate; with --{prefix}key")
    add("key", metavar="FILE")
    add("insecure", action="store_true", help="plain MQTT to another machine")
    group.add_argument("--base-topic", default=defaults.base_topic, help=f"default {defaults.base_topic}")


def mqtt_config(options: argparse.Namespace, *, prefix: str = "mqtt-") -> MqttConfig | None:
    """None without a host. Raises ConfigError."""
    if options.mqtt_host is None:
        if options.mqtt_port != MqttConfig().port or options.mqtt_tls or options.mqtt_ca or options.mqtt_username:
            raise ConfigError(f"--{prefix}port and the like are of a broker: give --{prefix}host, too")
        return None
    keys = ("host", "port", "protocol", "insecure", "username", "password_file")
    raw: dict[str, Any] = {"base_topic": options.base_topic}
    raw |= {key: value for key in keys if (value := getattr(options, f"mqtt_{key}")) is not None}
    tls = {key: value for key in _TLS if (value := getattr(options, f"mqtt_{key}")) is not None}
    if tls or options.mqtt_tls:
        raw["tls"] = tls
    config = convert(raw, MqttConfig, "command line")
    if ("certificate" in tls) != ("key" in tls):
        raise ConfigError(f"--{prefix}certificate and --{prefix}key go together: give both")
    if config.base_topic.startswith("$") or "" in config.base_topic.split("/"):
        raise ConfigError(
            f"--base-topic {config.base_topic}: must not begin with $, begin or end with /, or have // in it"
        )
    if config.password_file is not None and config.username is None:
        raise ConfigError(f"--{prefix}password-file: there is no user name to go with it; give --{prefix}username")
    if config.tls is None and not config.insecure and not is_loopback(config.host):
        raise ConfigError(
            f"--{prefix}host {config.host}: not this machine, and without TLS everybody on the way can read and change "
            f"what is sent: give --{prefix}tls or --{prefix}ca, or --{prefix}insecure to accept that"
        )
    return config


def as_options(line: str, *, prefix: str = "mqtt-") -> str:
    """What the client says of keys of agent.toml, said of these options."""
    line = line.replace("client_id", "client-id").replace("password_file", f"--{prefix}password-file")
    line = re.sub(r"\[mqtt(?:\.tls)?\] ([a-z-]+)(?: =)?", rf"--{prefix}\1", line)
    return line.replace("[mqtt.tls]", f"--{prefix}ca, --{prefix}certificate and --{prefix}key")

"""Sensor configurations in one line, for tests."""

from __future__ import annotations

import msgspec

from edge_agent.config.schema import SensorConfig
from edge_agent.config.units import decode_quantity


def sensor_config(source: str, fields: dict | list[str], **keys) -> SensorConfig:
    """As from the configuration file; ``fields`` may be just names."""
    fields = fields if isinstance(fields, dict) else {name: {} for name in fields}
    raw = {"name": "s", "source": source, "fields": fields, **keys}
    return msgspec.convert(raw, SensorConfig, dec_hook=decode_quantity)

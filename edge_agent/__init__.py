"""edge-agent: camera frames and sensor readings in, trustworthy predictions over MQTT out."""

__version__ = "0.1.0"

"""A complete, valid configuration to start from, and the way from its text to structs without a board."""

from edge_agent.config.convert import parse_toml
from edge_agent.config.load import build_config
from edge_agent.config.profile import parse_profile

PROFILE = """
title = "A board of the tests"
support = "untested"
thermal = { slow_above_c = 80, normal_below_c = 70 }
[defaults.outbox]
memory = "16MiB"
"""

COMPLETE = """
[device]
id = "line3-cam1"
groups = ["line-3", "pilot"]

[mqtt]
host = "127.0.0.1"
keepalive = "20s"

[[camera]]
name = "front"
source = "v4l2:/dev/video0"
width = 640
height = 480
fps = 30

[[camera]]
name = "clip"
source = "file:belt.mp4"

[[sensor]]
name = "machine"
source = "serial:/dev/ttyUSB0?baud=9600"
format = "regex"
pattern = "v=(?P<vibration>[0-9.]+)"
[sensor.fields.vibration]
unit = "g"
range = [0, 16]

[[sensor]]
name = "ambient"
source = "csv:office.csv"
timeline = "media"
start = "2013-12-22 20:00:00"
[sensor.fields.temperature]
select = "value"
unit = "degF"

[[pipeline]]
name = "inspect"
camera = "front"
model = "conveyor"
features = { vibration = "machine.vibration" }
rate = "10/s"
[pipeline.align]
max_skew = "200ms"

[[pipeline]]
name = "replay"
camera = "clip"
model = "conveyor"
attach = ["ambient"]

[model.conveyor]
path = "factory.tflite"
delegates = ["edgetpu", "quick", "cpu"]
[model.conveyor.card]
task = "classification"

[delegate.quick]
library = "/usr/lib/libquick.so"
options = { level = "2" }
"""


def build(text, host_name="bench-7"):
    """Config, profile and warnings of a TOML text, as for a board with the profile above."""
    raw = parse_toml(text, "agent.toml")
    return build_config(raw, "agent.toml", lambda name: parse_profile(PROFILE, name, "board.toml"), host_name)

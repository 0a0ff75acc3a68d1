"""docs/configuration.md says of every key what the schema says, and its examples are configurations that start."""

import re
from pathlib import Path

import pytest
from msgspec import NODEFAULT, Struct, inspect

from edge_agent.config import schema, sources
from edge_agent.config.units import Duration, Rate, Size
from edge_agent.config.words import duration_text, show
from edge_agent.io.cameras import registry
from edge_agent.io.profiles import load_profile, profile_names
from edge_agent.io.sensors import SENSORS
from tests.config.configurations import build

TEXT = (Path(__file__).resolve().parents[2] / "docs/configuration.md").read_text()
SECTIONS = {
    "[device]": schema.DeviceConfig,
    "[mqtt]": schema.MqttConfig,
    "[mqtt.tls]": schema.TlsConfig,
    "[[camera]]": schema.CameraConfig,
    "[[sensor]]": schema.SensorConfig,
    "[sensor.fields.NAME]": schema.FieldConfig,
    "[[pipeline]]": schema.PipelineConfig,
    "[pipeline.align]": schema.AlignConfig,
    "[pipeline.publish]": schema.PublishConfig,
    "[pipeline.smoothing]": schema.SmoothingConfig,
    "[model.NAME]": schema.ModelConfig,
    "[delegate.NAME]": schema.DelegateConfig,
    "[outbox]": schema.OutboxConfig,
    "[log]": schema.LogConfig,
}


def documented(heading):
    """Key -> default, of the table of keys below a heading."""
    section = re.search(rf"^## `{re.escape(heading)}`\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section, f"docs/configuration.md has no section {heading}"
    table = re.search(r"^\| key \|.*?(?=\n\n|\n## |\Z)", section[1], re.DOTALL | re.MULTILINE)
    keys = {}
    for line in table[0].splitlines()[2:]:
        key, _, default = (cell.strip() for cell in line.strip("|").split("|")[:3])
        keys |= dict.fromkeys(re.findall(r"`(\w+)`", key), default)
    return keys


WRITTEN = {
    Duration: lambda default: f'`"{duration_text(default)}"`',
    Size: lambda default: f'`"{default // 2**20}MiB"`',
    Rate: lambda default: f'`"{default}"`',
    dict: lambda default: "`{}`",
    tuple: lambda default: "`[]`",
}


def written(field):
    """The default as the document must write it; None where it is to be put in words."""
    if field.required:
        return "required"
    default = field.default if field.default is not NODEFAULT else field.default_factory()
    if isinstance(default, Struct):
        return "see below"
    return None if default is None else WRITTEN.get(type(default), lambda value: f"`{show(value)}`")(default)


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_every_key_of_its_table_and_no_other(heading):
    fields = {field.encode_name: field for field in inspect.type_info(SECTIONS[heading]).fields}
    keys = documented(heading)
    assert keys.keys() == fields.keys()
    for key, field in fields.items():
        if (default := written(field)) is None:
            assert keys[key] not in ("", "required")
        else:
            assert keys[key] == default, key


def test_every_table_of_the_file_has_its_section():
    headings = set(re.findall(r"^## `(.+)`$", TEXT, re.MULTILINE))
    assert headings == SECTIONS.keys()
    first = {heading.strip("[]").split(".")[0] for heading in SECTIONS}
    assert first == {field.encode_name for field in inspect.type_info(schema.Config).fields}


def test_the_examples_start_without_a_warning():
    examples = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        _, _, warnings = build(example)
        assert warnings == ()


def test_the_sources_are_those_that_have_an_adapter():
    assert set(sources.CAMERAS) == set(registry._ADAPTERS)
    assert set(sources.SENSORS) == set(SENSORS)
    assert set(sources.FILE_CAMERAS) == {kind for kind in sources.CAMERAS if not registry.is_live(f"{kind}:x")}
    for kind in sources.CAMERAS + sources.SENSORS:
        assert re.search(rf"`{kind}:", TEXT), f"{kind}: is not documented"


def test_the_profiles_are_listed_with_what_they_were_tested_on():
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)
    profiles = [load_profile(name) for name in profile_names()]
    assert sorted(rows) == sorted((profile.name, profile.title, profile.support) for profile in profiles)

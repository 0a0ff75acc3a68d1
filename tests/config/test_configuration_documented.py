"""docs/configuration.md says of every key what the schema says, and its examples are configurations that start."""

import re
import shutil
from pathlib import Path

import pytest
from msgspec import NODEFAULT, Struct, inspect

from edge_agent.commands.check import check
from edge_agent.config import schema, sources
from edge_agent.config.load import load_config
from edge_agent.config.units import Duration, Rate, Size
from edge_agent.config.words import duration_text, show
from edge_agent.core.physical_units import QUANTITIES
from edge_agent.io.cameras import registry
from edge_agent.io.profiles import load_profile, profile_names
from edge_agent.io.sensors import SENSORS
from tests.simulators.certificates import Authority

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/configuration.md").read_text()
MODEL = ROOT / "examples/conveyor/model/conveyor.tflite"
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
    "[update]": schema.UpdateConfig,
    "[drift]": schema.DriftConfig,
    "[drift.samples]": schema.SamplesConfig,
    "[http]": schema.HttpConfig,
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


def whole_files(name):
    """The examples of a document that are files of their own: those with a pipeline."""
    blocks = re.findall(r"^```toml\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if re.search(r"^\[\[pipeline\]\]", block, re.MULTILINE)]


@pytest.mark.parametrize(("document", "number"), [("docs/configuration.md", 2), ("README.md", 1)])
def test_whole_files_pass_the_check_with_the_shipped_model_beside_them(document, number, tmp_path):
    examples = whole_files(document)
    assert len(examples) == number
    shutil.copy(MODEL, tmp_path)
    for example in examples:
        for name in re.findall(r'^password_file = "(.+)"', example, re.MULTILINE):
            (tmp_path / name).touch(mode=0o600)
            (tmp_path / name).write_text("x")
        for name in re.findall(r'^ca = "(.+)"', example, re.MULTILINE):
            shutil.copy(Authority(tmp_path / "authority").ca, tmp_path / name)
        path = tmp_path / "agent.toml"
        path.write_text(example)
        loaded = load_config(path, lambda _: load_profile("generic-x86"), "bench-7")
        findings = check(loaded, devices=False)
        assert not [finding for finding in findings if finding.status != "ok"]
        assert any(finding.subject.startswith("pipeline ") for finding in findings)


def test_the_known_units_are_listed_by_quantity():
    table = re.search(r"^\| quantity \|.*?(?=\n\n)", TEXT, re.DOTALL | re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]
    assert {name: re.findall(r"`(.+?)`", units) for name, units in rows} == {
        name: list(units) for name, units in QUANTITIES.items()
    }


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

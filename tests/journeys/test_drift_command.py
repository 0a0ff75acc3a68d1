"""``edge-agent drift``: what a person and a program read, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_agent.commands import drift
from edge_agent.commands.drift_picture import NothingToDrawError
from edge_agent.commands.drift_text import sparkline
from edge_agent.core.data_quality import CameraLook
from edge_agent.core.drift.carried import Carried
from edge_agent.core.drift.observe import Observer
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.snapshot import read_snapshot
from edge_agent.errors import ConfigError, StorageError
from edge_agent.io.drift_state import DriftFolder
from tests.simulators.agent_toml import MODEL, belt, head, inspect, machine
from tests.simulators.command_line import edge_agent
from tests.simulators.tiny_models import tiny_engine
from tests.simulators.watched_line import Line, classifier

WARMTH = {"warmth": {"unit": "degC"}}
GREY, RED = (154, 165, 177), (209, 73, 91)  # what is usual, and what was seen


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    second = inspect("second")
    path.write_text(head(1883) + belt() + machine() + inspect() + second + MODEL + '[drift]\npath = "learnt"\n')
    return path


def keep(config: Path, line: Line) -> None:
    """What a daemon leaves of this pipeline."""
    line.watched.report(line.now)
    DriftFolder(config.parent / "learnt").save(f"{line.name}.json", line.watched.snapshot.encode())


def command(config: Path, *arguments: str) -> int:
    return drift.main([*arguments, "--config", str(config)])


def drifted() -> Line:
    """A baseline of ordinary readings, then an hour of others."""
    line = Line(tiny_engine("1", features=WARMTH))
    line.see(22 * 60)
    line.see(3600, warmth=60)
    return line


# --- text --------------------------------------------------------------------------------------------------------


def test_a_person_reads_what_drifted_first(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = drifted()
    keep(config, line)
    assert command(config, "inspect") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("inspect: critical since 2026-09-21T")
    assert "  model tiny 1 (1)" in lines
    assert any("baseline learnt; blocks of " in one for one in lines)
    assert "  the model file has no reference: only the baseline is compared with" in lines
    table = lines.index(next(one for one in lines if one.lstrip().startswith("feature ")))
    assert {lines[table + 1].split()[0], lines[table + 2].split()[0]} == {"warmth", "value.value"}
    assert "critical" in lines[table + 1]
    assert "█" in lines[table + 1]
    (alarm,) = (one for one in lines if one.startswith("  warmth since 2026-09-21T"))
    assert alarm.endswith("; look at the sensor, its wiring and what it measures")
    assert "is materially apart from the baseline learnt here" in alarm
    assert not any("camera None" in one for one in lines)


def test_while_it_learns_the_progress_is_shown_and_the_result_is_good(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(classifier("1"))
    line.see(300)
    keep(config, line)
    assert command(config, "inspect") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("inspect: learning")
    assert " of 20 min; " in shown
    assert "light.confidence" in shown


def test_a_camera_that_is_gone_is_seen_though_no_row_comes_any_more(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(tiny_engine("1", features=WARMTH))
    line.see(300)
    line.camera = CameraLook("lost", 0)
    line.wait(400)
    keep(config, line)
    assert command(config, "inspect") == 1
    shown = capsys.readouterr().out
    assert shown.startswith("inspect: critical")
    assert "critical: camera disconnected" in shown
    assert "when something was seen last" in shown
    assert "warmth" in shown


def test_a_camera_that_never_came_is_no_failure_of_the_command(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(tiny_engine("1", features=WARMTH))
    line.wait(30)
    keep(config, line)
    assert command(config, "inspect") == 0
    assert "nothing was seen yet" in capsys.readouterr().out


def test_a_silence_labels_and_a_new_baseline_are_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = Line(classifier("1"))
    line.see(20)
    name = line.publish(line.live, looked_at=False)
    line.step()
    line.label(name, "dark")
    line.watched.silence(3600 * 10**9, "cleaning", line.now)
    line.watched.rebaseline("new \x1b[2J lens", line.now)
    keep(config, line)
    command(config, "inspect")
    shown = capsys.readouterr().out
    assert "no events until 2026-09-21T" in shown
    assert "labels: 1 counted" in shown
    assert "light: labels 1, accuracy" in shown
    assert "learnt anew because: new" in shown
    assert "\x1b" not in shown


def test_a_pipeline_without_a_report_is_said_and_is_no_good_result(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = Line(tiny_engine("1", features=WARMTH))
    line.see(20)
    keep(config, line)
    assert command(config) == 1
    shown = capsys.readouterr().out
    assert "second: no report yet" in shown
    assert "inspect: learning" in shown


def test_what_can_not_be_meant_or_read_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"no pipeline 'third'.*it has inspect, second"):
        command(config, "third")
    DriftFolder(config.parent / "learnt").save("inspect.json", b'{"schema": "edge-agent/drift-snapshot/1"')
    with pytest.raises(StorageError, match=r"inspect\.json: .*the next report replaces it"):
        command(config, "inspect")
    config.write_text(config.read_text().replace("[drift]\n", "[drift]\nenabled = false\n"))
    with pytest.raises(ConfigError, match=r"drift\.enabled = false"):
        command(config)


def test_a_sparkline_shows_what_is_not_known_as_a_dot() -> None:
    assert sparkline([None, 0.0, 0.2, 0.4, 1.0]) == "·▁▅██"
    assert len(sparkline([0.1] * 100)) == 24


# --- JSON --------------------------------------------------------------------------------------------------------


def test_a_program_reads_one_object_a_pipeline(config: Path) -> None:
    line = Line(tiny_engine("1", features=WARMTH))
    line.see(60)
    keep(config, line)
    done = edge_agent(config.parent, "drift", "inspect", "--json", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["schema"] == "edge-agent/drift-snapshot/1"
    assert said["latest"]["pipeline"] == said["pipeline"] == "inspect"
    assert read_snapshot(done.stdout.encode()).said().rows == said["latest"]["rows"]


def test_a_program_reads_what_is_wrong_too(config: Path) -> None:
    done = edge_agent(config.parent, "drift", "third", "--json", "--config", config)
    assert done.returncode == 2
    assert "no pipeline 'third'" in json.loads(done.stdout)["error"]


def test_a_reference_that_is_not_used_is_told_from_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = tiny_engine("1", features=WARMTH)
    engine.drift = Carried(fault='the reference lacks "warmth", a feature of the model')
    line = Line(engine)
    line.see(20)
    keep(config, line)
    command(config, "inspect")
    text = capsys.readouterr().out
    assert 'the model\'s reference is not used: the reference lacks "warmth"' in text
    assert "has no reference" not in text


# --- the picture -------------------------------------------------------------------------------------------------


def colours(picture: Image.Image) -> dict[tuple[int, ...], int]:
    values, counts = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(value.tolist()): int(count) for value, count in zip(values, counts, strict=True)}


def test_without_a_reference_the_picture_is_of_the_baseline(config: Path, tmp_path: Path) -> None:
    keep(config, drifted())
    path = tmp_path / "out.png"
    assert command(config, "inspect", "--plot", str(path)) == 1  # because of the level
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width == 960
        shown = colours(picture)
    assert shown[GREY] > 1000
    assert shown[RED] > 1000


def test_with_a_reference_the_picture_is_of_it_from_the_first_row_on(config: Path, tmp_path: Path) -> None:
    engine = tiny_engine("1", features=WARMTH)
    specs = Observer(engine.card, engine.runtime.outputs).names
    rows = np.random.default_rng(1).normal([20.0] + [100.0] * (len(specs) - 1), 4.0, (2000, len(specs)))
    engine.drift = Carried(make_reference(specs, rows))
    line = Line(engine)
    line.see(30, warmth=40)
    keep(config, line)
    assert line.watched.snapshot.usual_of == "reference"
    path = tmp_path / "out.png"
    command(config, "inspect", "--plot", str(path))
    with Image.open(path) as picture:
        assert {GREY, RED} <= set(colours(picture))


def test_with_nothing_to_draw_it_says_so_and_writes_nothing(config: Path, tmp_path: Path) -> None:
    line = Line(tiny_engine("1", features=WARMTH))
    line.see(20)
    keep(config, line)
    path = tmp_path / "out.png"
    with pytest.raises(NothingToDrawError, match="the baseline is being learnt") as caught:
        command(config, "inspect", "--plot", str(path))
    assert caught.value.exit_code == 1
    assert not path.exists()


def test_a_picture_that_can_not_be_written_is_the_operators(config: Path, tmp_path: Path) -> None:
    keep(config, drifted())
    with pytest.raises(ConfigError, match="name a file that this user may write"):
        command(config, "inspect", "--plot", str(tmp_path / "nowhere" / "out.png"))

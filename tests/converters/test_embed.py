"""Files in a model: whole, checked, and the model's own bytes untouched."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from converters.__main__ import main
from converters.embedding import embed
from converters.tflite.archive import bare_model, with_members
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import parse_model, read_model
from tests.converters.conveyor import MODEL

NOTES = b"what was measured"


def test_a_file_is_put_in_and_the_flatbuffer_stays_as_it_was(tmp_path: Path) -> None:
    notes, out = tmp_path / "notes.txt", tmp_path / "out.tflite"
    notes.write_bytes(NOTES)
    assert main(["embed", str(MODEL), "--file", f"docs/notes.txt={notes}", "-o", str(out)]) == 0
    before, after = read_model(MODEL), read_model(out)
    assert after.members == {**before.members, "docs/notes.txt": NOTES}
    assert bare_model(after.content) == bare_model(before.content)
    assert not after.notes


def test_unzip_finds_nothing_to_say_about_the_file(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    out.write_bytes(embed(MODEL, {"notes/why.txt": b"because"}))
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert "notes/why.txt" in archive.namelist()


def test_the_same_files_give_the_same_bytes_wherever_they_were_before() -> None:
    once = embed(MODEL, {"a.txt": b"a"})
    assert embed(MODEL, {"a.txt": b"a"}) == once


def test_a_file_is_taken_out(tmp_path: Path) -> None:
    out = tmp_path / "out.tflite"
    out.write_bytes(embed(MODEL, {"notes.txt": NOTES}))
    assert main(["embed", str(out), "--remove", "notes.txt", "-o", str(out)]) == 0
    assert read_model(out).members == read_model(MODEL).members


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("/etc/passwd", b"", "not a name"),
        ("../up.txt", b"", "not a name"),
        ("a\\b", b"", "not a name"),
        ("folder/", b"", "not a name"),
        ("edge-agent/card.json", b"{}", "edge-convert card edit"),
        ("edge-agent/golden.npz", b"", "edge-convert golden"),
    ],
)
def test_what_a_device_would_not_take_is_refused(name: str, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        embed(MODEL, {name: content})


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"schema": "edge-agent/drift-reference/1"}'])
def test_a_drift_reference_must_be_one(content: bytes) -> None:
    with pytest.raises(ModelError, match="edge-convert baseline"):
        embed(MODEL, {"edge-agent/drift.json": content})


def test_a_cpu_build_must_be_a_model() -> None:
    with pytest.raises(ModelError, match="not a TFLite model"):
        embed(MODEL, {"edge-agent/cpu.tflite": b"0123456789"})


def test_more_than_a_device_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64 files"):
        embed(MODEL, {f"{number}.txt": b"" for number in range(64)})


def test_a_model_whose_zip_is_damaged_is_not_written_anew(tmp_path: Path) -> None:
    content = bytearray(MODEL.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 20 : at + 40] = b"\xff" * 20
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(content)
    assert parse_model(bytes(content), broken).notes
    with pytest.raises(ModelError, match="mend the file first"):
        embed(broken, {"a.txt": b""})


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.tflite"
    assert main(["embed", str(MODEL), "--file", "a.txt=missing", "-o", str(out), "--json"]) == 2
    assert not out.exists()
    assert not json.loads(capsys.readouterr().out)["ok"]


def test_bare_model_finds_the_flatbuffers_end_in_a_file_without_members() -> None:
    bare = bare_model(MODEL.read_bytes())
    assert bare_model(bare) == bare
    assert bare_model(with_members(bare, {})) == bare


def test_python_m_converters_is_the_same_command() -> None:
    import sys

    done = subprocess.run([sys.executable, "-m", "converters", "--help"], capture_output=True, text=True, check=True)
    assert "edge-convert COMMAND" in done.stdout

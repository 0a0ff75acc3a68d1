"""``check_files``: every file that a configuration names is looked for where the daemon would look."""

import pytest

from edge_agent.config.files import check_files
from edge_agent.config.load import load_config
from edge_agent.config.profile import parse_profile
from tests.config.configurations import COMPLETE, PROFILE


@pytest.fixture
def loaded(tmp_path):
    """A configuration of the given text, in a folder with all the files that COMPLETE names but the library."""
    for name in ("factory.tflite", "belt.mp4", "office.csv"):
        (tmp_path / name).write_text("x")

    def load(text):
        path = tmp_path / "agent.toml"
        path.write_text(text)
        return load_config(path, lambda name: parse_profile(PROFILE, name, "board.toml"), "host")

    return load


def test_files_that_are_there_are_no_finding(loaded, tmp_path):
    (tmp_path / "libquick.so").write_text("x")
    findings = check_files(loaded(COMPLETE.replace("/usr/lib/libquick.so", "./libquick.so")))
    assert (findings.problems, findings.warnings) == ((), ())


def test_a_bare_library_name_is_left_to_the_dynamic_linker(loaded):
    assert check_files(loaded(COMPLETE.replace("/usr/lib/libquick.so", "libquick.so.1"))).problems == ()


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("factory.tflite", "absent.tflite", 'model.conveyor.path = "absent.tflite": no such file'),
        ("file:belt.mp4", "file:absent.mp4", 'camera[1].source = "absent.mp4": no such file'),
        ("file:belt.mp4", "images:*.png", 'camera[1].source = "images:*.png": no file fits that pattern'),
        ("csv:office.csv", "csv:.", 'sensor[1].source = ".": a folder; expected a file'),
        ("csv:office.csv", "csv:" + "x" * 300, "can't be looked at"),
        ("libquick.so", "absent.so", 'delegate.quick.library = "/usr/lib/absent.so": no such file'),
        (
            "[mqtt]",
            "[mqtt]\nusername = 'me'\npassword_file = 'empty'",
            'mqtt.password_file = "empty": the file is empty',
        ),
        (
            'v4l2:/dev/video0"',
            "rtsp://cam/1\"\nusername = 'me'\npassword_file = 'pw'",
            'camera[0].password_file = "pw"',
        ),
        ('keepalive = "20s"', "tls = { certificate = 'c', key = 'k' }", 'mqtt.tls.key = "k": no such file'),
        ('keepalive = "20s"', "tls.ca = 'ca.pem'", 'mqtt.tls.ca = "ca.pem": no such file'),
    ],
)
def test_a_file_that_can_t_be_used_is_a_problem_with_its_key_and_path(loaded, tmp_path, good, bad, said):
    (tmp_path / "empty").touch()
    problems = check_files(loaded(COMPLETE.replace(good, bad))).problems
    assert [line for line in problems if said in line and line.startswith(str(tmp_path / "agent.toml"))], problems


def test_an_outbox_that_can_not_be_one_is_said(loaded, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    assert "not a file; name one" in check_files(loaded(f'{COMPLETE}\n[outbox]\npath = "."\n')).problems[-1]
    assert "no outbox; the daemon" in check_files(loaded(f'{COMPLETE}\n[outbox]\npath = "notes.txt"\n')).warnings[-1]


def test_updates_without_their_root_are_said(loaded, tmp_path):
    text = f'{COMPLETE}\n[update]\nrepository = "mqtt:"\n'
    assert 'update.root = "update-root.json": no such file' in check_files(loaded(text)).warnings[-1]
    (tmp_path / "update-root.json").write_text("x")
    assert not [warning for warning in check_files(loaded(text)).warnings if "update.root" in warning]


def test_a_pattern_that_fits_is_no_finding(loaded, tmp_path):
    (tmp_path / "a.png").write_text("x")
    problems = check_files(loaded(COMPLETE.replace("file:belt.mp4", f"images:{tmp_path}/*.png"))).problems
    assert not [line for line in problems if "images:" in line]


def test_a_secret_that_everybody_may_read_is_a_warning(loaded, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    text = COMPLETE.replace("[mqtt]", "[mqtt]\nusername = 'me'\npassword_file = 'secret'")
    secret.chmod(0o644)
    warnings = check_files(loaded(text)).warnings
    assert len(warnings) == 1
    assert 'mqtt.password_file = "secret": everybody on this machine may read it: chmod o=' in warnings[0]
    secret.chmod(0o640)
    assert check_files(loaded(text)).warnings == ()

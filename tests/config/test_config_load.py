"""From a file on disk to a LoadedConfig: reading, the profile underneath, the device's name."""

import os

import pytest

from edge_agent.config.load import build_config, device_id, load_config, merge
from edge_agent.config.profile import parse_profile
from edge_agent.errors import ConfigError
from tests.config.configurations import COMPLETE, PROFILE, build


def board_profile(name):
    return parse_profile(PROFILE, name, "board.toml")


def load(path, host_name="bench-7"):
    return load_config(path, board_profile, host_name)


def test_a_complete_file_becomes_frozen_structs_with_plain_numbers(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(COMPLETE)
    loaded = load(path)
    inspect = loaded.config.pipeline[0]
    assert (inspect.rate, inspect.rate.period_ns, inspect.align.max_skew) == (10.0, 10**8, 200_000_000)
    assert loaded.config.mqtt.keepalive.seconds == 20
    assert loaded.config.sensor[0].fields["vibration"].range == (0.0, 16.0)
    assert loaded.config.model["conveyor"].delegates == ("edgetpu", "quick", "cpu")
    assert loaded.warnings == ()
    assert (loaded.path, loaded.folder, loaded.profile.name) == (path, tmp_path, "auto")
    assert loaded.resolve("factory.tflite") == tmp_path / "factory.tflite"
    assert str(loaded.resolve("/models/x.tflite")) == "/models/x.tflite"
    with pytest.raises(AttributeError):
        loaded.config.device.id = "other"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xef\xbb\xbf" + COMPLETE.replace("\n", "\r\n").encode())
    assert load(path).config.device.id == "line3-cam1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; docs/configuration.md has one to start from"),
        (b"[device]\nid = '\xff'", "line 2: not UTF-8 text; save the file as UTF-8"),
        (b"#" * (2**20 + 1), "larger than 1 MiB: not a configuration"),
        (b"[device\n", "line 1, column 8: not valid TOML"),
    ],
)
def test_a_file_that_is_no_configuration_is_named_with_its_path(tmp_path, content, said):
    path = tmp_path / "agent.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: {said}")


def test_a_folder_is_answered_with_the_file_in_it(tmp_path):
    with pytest.raises(ConfigError, match=r"a folder; name the file in it, such as .*/agent\.toml"):
        load(tmp_path)


def test_a_path_that_no_system_call_takes_is_an_error_of_the_operator_too(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_of_somebody_else_is_answered_with_its_mode(tmp_path):
    path = tmp_path / "agent.toml"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match="this user may not read it"):
        load(path)


def test_the_profile_s_defaults_lie_under_the_file():
    config, profile, _ = build(COMPLETE)
    assert profile.defaults == {"outbox": {"memory": "16MiB"}}
    assert config.outbox.memory == 16 * 2**20
    config, _, _ = build(COMPLETE + '[outbox]\nmax_age = "1h"')
    assert (config.outbox.memory, config.outbox.max_age.seconds) == (16 * 2**20, 3600)
    config, _, _ = build(COMPLETE + '[outbox]\nmemory = "1MiB"')
    assert config.outbox.memory == 2**20


def test_merging_replaces_lists_and_values_and_joins_tables():
    under = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}
    assert merge(under, {"a": {"y": [3]}, "c": 2}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert under == {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}


def test_a_profile_that_can_t_be_found_is_an_error_of_the_file():
    def find(name):
        raise ConfigError("no such profile")

    with pytest.raises(ConfigError, match=r'^agent\.toml: device\.profile = "pi": no such profile$'):
        build_config({"device": {"profile": "pi"}}, "agent.toml", find, "host")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults.outbox.memory = 5", "board.toml: defaults: outbox.memory = 5: expected a size"),
        ("thermal = { slow_above_c = 60, normal_below_c = 70 }", "thermal.normal_below_c must be below"),
        ("memory_mb = 0", "board.toml: memory_mb = 0: expected a whole number from 1 upwards"),
        ("delegate = []", 'board.toml: delegate: unknown key; did you mean "delegates"?'),
    ],
)
def test_a_profile_is_checked_like_a_configuration(text, said):
    head = 'title = "x"\nsupport = "untested"\n'
    thermal = "" if text.startswith("thermal") else "thermal = { slow_above_c = 80, normal_below_c = 70 }\n"
    with pytest.raises(ConfigError) as raised:
        parse_profile(head + thermal + text, "x", "board.toml")
    assert said in str(raised.value)


def test_a_profile_without_a_title_is_asked_for_one():
    with pytest.raises(ConfigError, match=r"^board\.toml: title: missing; the file needs it: text$"):
        parse_profile('support = "untested"', "x", "board.toml")


@pytest.mark.parametrize(
    ("host", "id_"),
    [
        ("Line3-Cam1", "line3-cam1"),
        ("cam_1.factory.local", "cam-1-factory-local"),
        ("-ä-Pi", "pi"),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_device_without_an_id_is_called_by_its_host_name(host, id_):
    config, _, _ = build(COMPLETE.replace('id = "line3-cam1"', ""), host)
    assert config.device.id == id_
    assert config.device.groups == ("line-3", "pilot")


def test_a_host_name_that_others_have_too_is_warned_of():
    _, _, warnings = build(COMPLETE.replace('id = "line3-cam1"', ""), "raspberrypi")
    assert warnings == ('agent.toml: device.id: taken from the host name "raspberrypi", which others have too',)


def test_a_host_name_without_a_usable_letter_asks_for_an_id():
    with pytest.raises(ConfigError, match=r"device\.id: missing, and the host name"):
        device_id("---", "agent.toml")


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 1), (4, 3), (6, 4), (64, 4)])
def test_an_interpreter_leaves_one_core_free_and_takes_four_at_most(cpus, threads):
    profile = board_profile("x")
    assert profile.thread_count(cpus) == threads


def test_a_profile_may_fix_the_threads():
    assert parse_profile("threads = 2\n" + PROFILE, "x", "board.toml").thread_count(64) == 2


@pytest.mark.parametrize(
    ("cpus", "interpreters", "threads"),
    [
        (4, [None, None], 1),
        (6, [None, None], 2),
        (16, [None, None], 4),
        (2, [None, None, None], 1),
        (8, [3, None, None], 2),
        (4, [8, None], 1),
        (4, [], 3),
    ],
)
def test_several_interpreters_share_the_cores_but_one(cpus, interpreters, threads):
    profile = parse_profile(PROFILE, "x", "board.toml")
    assert profile.thread_count(cpus, interpreters) == threads


def test_several_interpreters_share_the_threads_of_the_profile():
    profile = parse_profile("threads = 6\n" + PROFILE, "x", "board.toml")
    assert profile.thread_count(64, [None, None]) == 3
    assert profile.thread_count(64, [None]) == 6

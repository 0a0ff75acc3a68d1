import os
import shlex
import signal
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, DeviceError
from tests.simulators.waiting import wait_for


def shell(program: str) -> str:
    return f"command:sh -c {shlex.quote(program)}"


def gone(pid: int) -> bool:
    """No such process, or only its exit status left for a parent that does not ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def opened(sensor):
    def make(program, **keys):
        one = sensor(shell(program), ["t"], **keys)
        one.open()
        return one

    return make


def test_the_output_of_each_run_is_one_sample(sensor, clock):
    one = sensor(shell("""echo '{"a": {"t": 21.5}}'"""), {"t": {"select": "a.t"}}, interval="10ms")
    one.open()
    before = clock.monotonic_ns()
    first, second = one.read(20), one.read(20)
    assert first.values == second.values == {"t": 21.5}
    assert before < first.mono_ns < second.mono_ns <= clock.monotonic_ns()


def test_there_is_no_shell_around_the_arguments(sensor):
    one = sensor("""command:echo '"$HOME;"'""", ["t"])
    one.open()
    assert one.read(20).values == {"t": "$HOME;"}


def test_a_relative_program_starts_from_the_configurations_folder(sensor, tmp_path):
    program = tmp_path / "read_it"
    program.write_text('#!/bin/sh\ncat value "$1"\n')
    program.chmod(0o755)
    (tmp_path / "value").write_text("[")
    (tmp_path / "more").write_text("21.5]")
    one = sensor("command:./read_it more", {"t": {"select": "$[0]"}})
    one.open()
    assert one.read(20).values == {"t": 21.5}


def test_a_run_may_take_longer_than_one_read(opened, tmp_path):
    one = opened("until [ -e go ]; do sleep 0.01; done; echo 21.5")
    assert one.read(0.01) is None
    assert one.read(0.01) is None
    (tmp_path / "go").touch()
    assert one.read(20).values == {"t": 21.5}


def test_a_reading_is_not_due_before_the_interval(opened):
    one = opened("echo 21.5", interval="1h")
    assert one.read(20) is not None
    assert one.read(0.01) is None


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("echo first >&2; echo second >&2; exit 3", "ended with status 3: first"),
        ("exit 1", "ended with status 1"),
        ("kill -TERM $$", "ended with signal 15"),
        ("echo hello; echo broken >&2", "printed no usable JSON: .*found 'hello': broken"),
        ("true", "printed no usable JSON"),
        ("""echo '{"x": 1}'""", "none of the sensor's fields is in it"),
        ("yes", "printed more than 65536 bytes"),
        ("yes >&2", "gave no answer within 0.3 s"),
    ],
)
def test_a_run_that_fails_is_a_device_error_with_the_first_line_of_its_complaint(opened, program, says):
    one = opened(program, timeout="300ms" if program == "yes >&2" else "20s")
    with pytest.raises(DeviceError, match=says) as error:
        one.read(20)
    assert "\n" not in str(error.value)


def test_the_run_after_a_failure_is_a_new_one(opened, tmp_path):
    one = opened("cat value", interval="10ms")
    with pytest.raises(DeviceError, match="No such file"):
        one.read(20)
    (tmp_path / "value").write_text("21.5")
    one.close()
    one.open()
    assert one.read(20).values == {"t": 21.5}


def test_a_program_that_hangs_is_killed_with_all_that_it_started(opened, tmp_path):
    one = opened("sleep 1000 & echo $! > child; echo $$ > leader; wait", timeout="300ms")
    with pytest.raises(DeviceError, match=r"gave no answer within 0.3 s \(timeout\)"):
        one.read(20)
    pids = [int((tmp_path / name).read_text()) for name in ("child", "leader")]
    wait_for(lambda: all(map(gone, pids)), "the whole group is dead")


def test_closing_kills_a_running_program(opened, tmp_path):
    one = opened("echo $$ > leader.new; mv leader.new leader; exec sleep 1000")
    assert one.read(0) is None
    wait_for((tmp_path / "leader").exists, "the program has started")
    one.close()
    assert gone(int((tmp_path / "leader").read_text()))
    one.close()


def test_a_program_left_in_the_background_does_not_hold_up_the_reading(opened, tmp_path):
    one = opened("sleep 1000 & echo $! > child; echo 21.5")
    assert one.read(20).values == {"t": 21.5}
    pid = int((tmp_path / "child").read_text())
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_stopping_ends_the_wait_for_a_running_program(opened, stopping):
    one = opened("exec sleep 1000")
    assert one.read(0) is None
    stopping.set()
    assert one.read(1000) is None


def test_a_program_that_is_not_there_is_a_device_error(sensor, tmp_path):
    with pytest.raises(DeviceError, match="names no-such-program, which is no program"):
        sensor("command:no-such-program", ["t"]).open()
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    one = sensor("command:./script", ["t"])
    one.open()
    with pytest.raises(DeviceError, match="can't be started"):
        one.read(1)


@pytest.mark.parametrize(("source", "says"), [("command:a 'b", "can't be split"), ("command: ", "names no program")])
def test_a_command_line_that_can_not_be_read_is_refused(sensor, source, says):
    with pytest.raises(ConfigError, match=says):
        sensor(source, ["t"])

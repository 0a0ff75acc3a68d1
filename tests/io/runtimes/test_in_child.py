"""A model in a process of its own: the same answers, and whatever happens there, an error of ours here."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import ConfigError, DeviceError, DeviceLostError, ModelError, RunError
from edge_agent.io.runtimes import BACKENDS, Build, create
from edge_agent.io.runtimes.backend import Backend
from edge_agent.io.runtimes.choose import choose
from edge_agent.io.runtimes.in_child import ChildRuntime
from tests.io.runtimes import hosted
from tests.simulators.waiting import LIMIT_S, wait_for

ROOT = Path(__file__).resolve().parents[3]
HOSTED = "tests.io.runtimes.hosted:build"
ZEROS = np.zeros((2, 3), np.int8)


@pytest.fixture
def host():
    """A factory; every child that it started is gone at the end."""
    runtimes = []

    def start(model, entry=HOSTED, **limits):
        runtimes.append(ChildRuntime(entry, model, Build("gpu", threads=2), **{"start_s": LIMIT_S, **limits}))
        return runtimes[-1]

    yield start
    for runtime in runtimes:
        runtime.close()


def plain(model, wanted):
    """The entry of an interpreter in a child."""
    return BACKENDS["xnnpack"].build(model, wanted)


PLAIN = f"{plain.__module__}:{plain.__name__}"


class Ticker(threading.Thread):
    """Counts as often as it gets Python's lock."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ticks = 0
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.005):
            self.ticks += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_a_model_answers_as_it_does_in_this_process(host, example):
    model = (example / "model" / "conveyor.tflite").read_bytes()
    here = create(model, "xnnpack", threads=2, external={})
    there = host(model, PLAIN)
    assert (there.inputs, there.outputs) == (tuple(here.inputs), tuple(here.outputs))
    assert there.info == here.info.__class__("gpu", here.info.runtime, 2, delegated=True)
    draw = np.random.default_rng(7)
    for _ in range(20):
        tensors = {spec.name: draw.integers(-128, 128, spec.shape).astype(spec.dtype) for spec in here.inputs}
        expected, found = here.invoke(tensors), there.invoke(tensors)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in expected.items()
        }


def test_an_output_that_a_run_sizes_comes_with_its_size(host):
    tiny_models = pytest.importorskip("tests.io.runtimes.tiny_models")
    runtime = host(tiny_models.where(), PLAIN)
    assert runtime.outputs[0].shape == (-1, 1)
    some, none = np.array([True, False, True, True]), np.zeros(4, bool)
    assert runtime.invoke({"x": some})["y"].tolist() == [[0], [2], [3]]
    assert runtime.invoke({"x": none})["y"].shape == (0, 1)
    assert runtime.invoke({"x": some})["y"].tolist() == [[0], [2], [3]]


def test_an_input_is_at_real_zero_until_it_is_named_and_then_keeps_its_value(host):
    runtime = host(hosted.model())
    assert (runtime.invoke({})["x"] == hosted.SPEC.zero_point + 1).all()
    first = runtime.invoke({"x": ZEROS})["x"]
    assert (runtime.invoke({})["x"] == 1).all()
    runtime.invoke({"x": ZEROS + np.int8(5)})
    assert (first == 1).all()  # a copy: no later run changes it


def test_a_tensor_that_does_not_fit_is_refused_and_the_next_is_taken(host):
    runtime = host(hosted.model())
    with pytest.raises(ModelError, match="input 'x' takes int8 of shape"):
        runtime.invoke({"x": ZEROS.astype(np.float32)})
    with pytest.raises(ModelError, match="the model has no input 'y'"):
        runtime.invoke({"y": ZEROS})
    assert (runtime.invoke({"x": ZEROS})["x"] == 1).all()


def test_a_run_that_fails_there_fails_here_and_the_process_goes_on(host):
    runtime = host(hosted.model(run="fail"))
    for _ in range(2):
        with pytest.raises(RunError, match=r"^the run failed: bad value$"):
            runtime.invoke({"x": ZEROS})
    assert not gone(runtime.pid)


@pytest.mark.parametrize(
    ("wishes", "error", "said"),
    [
        ({"build": "refuse"}, DeviceError, "^no device on the bus$"),
        ({"build": "bug"}, DeviceLostError, r"^its process ended with status 1 \(ZeroDivisionError: a bug\)$"),
        ({"build": "exit"}, DeviceLostError, "^its process ended with status 3$"),
        ({"trial": "abort"}, DeviceLostError, r"^its process died: SIGABRT \(Check failed: a shader is lost\)$"),
        ({"trial": "nonsense"}, DeviceLostError, "^its process answered nonsense"),
    ],
)
def test_what_goes_wrong_while_it_is_built_is_one_error(host, wishes, error, said):
    with pytest.raises(DeviceError, match=said) as caught:
        host(hosted.model(**wishes))
    assert type(caught.value) is error


def test_a_build_that_hangs_is_stopped_in_time(host):
    with pytest.raises(DeviceError, match=r"^not ready within 1\.5 s, so its process was stopped$"):
        host(hosted.model(trial="hang"), start_s=1.5)


def test_an_error_of_another_kind_keeps_its_kind(host):
    with pytest.raises(ModelError, match="the file is empty"):
        host(b"", PLAIN)
    with pytest.raises(ConfigError, match=r"^install it$"):
        host(hosted.model(build="not installed"))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("abort", r"^its process died: SIGABRT \(Check failed: a shader is lost\)$"),
        ("exit", "^its process ended with status 3$"),
        ("hang", r"^no answer in time, so its process was stopped \(hangs\)$"),
        ("stop", "^no answer in time, so its process was stopped$"),
        ("nonsense", "^its process answered nonsense"),
        ("old answer", "^its process answered nonsense"),
    ],
)
def test_a_process_that_fails_during_a_run_is_a_lost_device_for_good(host, wish, said):
    runtime = host(hosted.model(run=wish), run_s=0.5)
    if wish == "old answer":  # right for the first run, not for the second
        runtime.invoke({"x": ZEROS})
    for _ in range(2):
        with pytest.raises(DeviceLostError, match=said):
            runtime.invoke({"x": ZEROS})
    assert gone(runtime.pid)


def test_a_process_that_was_killed_between_two_runs_is_a_lost_device(host):
    runtime = host(hosted.model())
    runtime.invoke({"x": ZEROS})
    os.kill(runtime.pid, signal.SIGKILL)
    with pytest.raises(DeviceLostError, match="its process died: SIGKILL; the system stopped it, probably for want of"):
        runtime.invoke({"x": ZEROS})


def test_who_stops_all_processes_of_the_service_does_not_take_the_device_from_it(host):
    runtime = host(hosted.model())
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(runtime.pid, kind)
    assert (runtime.invoke({"x": ZEROS})["x"] == 1).all()


def test_the_memory_can_not_be_taken_away_under_this_process(host):
    runtime = host(hosted.model(run="shrink"))
    with pytest.raises(RunError, match="refused: Operation not permitted"):
        runtime.invoke({"x": ZEROS})


def test_what_the_library_prints_stays_there_and_stays_small(host, capfd):
    runtime = host(hosted.model(run="chatter"))
    for _ in range(3):
        runtime.invoke({"x": ZEROS})
    assert capfd.readouterr() == ("", "")
    # it is emptied behind the answer: perhaps just now
    wait_for(lambda: Path(f"/proc/{runtime.pid}/fd/2").stat().st_size == 0, "the log in memory is emptied")


def test_the_thread_that_built_it_may_end(host):
    built = []
    thread = threading.Thread(target=lambda: built.append(host(hosted.model())))
    thread.start()
    thread.join()
    assert (built[0].invoke({"x": ZEROS})["x"] == 1).all()


def test_other_threads_go_on_while_it_is_built_and_while_it_runs(host):
    with Ticker() as ticker:
        runtime = host(hosted.model(trial="busy", run="busy"))
        before = ticker.ticks
        assert before > 10
        runtime.invoke({"x": ZEROS})
        assert ticker.ticks - before > 10


def test_nothing_stays_when_it_is_closed(host):
    before = sorted(Path("/proc/self/fd").iterdir())
    runtime = host(hosted.model())
    runtime.invoke({"x": ZEROS})
    runtime.close()
    runtime.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert gone(runtime.pid)
    with pytest.raises(DeviceLostError, match="it was closed"):
        runtime.invoke({"x": ZEROS})


@pytest.mark.parametrize("wish", ["build", "run"])
def test_it_ends_with_this_process_even_where_the_library_hangs(tmp_path, wish):
    program = (
        "import sys, pathlib\n"
        "from edge_agent.io.runtimes import in_child, Build\n"
        "from tests.io.runtimes import hosted\n"
        "runtime = in_child.ChildRuntime(sys.argv[1], sys.argv[2].encode(), Build('gpu'), start_s=100, run_s=100)\n"
        "runtime.invoke({})\n"
    )
    command = [sys.executable, "-c", program, HOSTED, hosted.model(**{wish: "hang"}).decode()]
    with subprocess.Popen(command, cwd=ROOT) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        child = int(wait_for(lambda: children.read_text().split(), "the child")[0])
        wait_for(lambda: Path(f"/proc/{child}/fd/2").read_bytes() == b"hangs", "the child hangs in its library")
        parent.kill()
    wait_for(lambda: gone(child), "the child is gone, too")


def test_where_it_dies_the_sample_is_run_by_the_next_back_end(monkeypatch, example, model_file):
    """As a back-end of the registry: no trial beforehand, and another takes over in the middle of a run."""
    content = (example / "model" / "conveyor.tflite").read_bytes()

    def build(model, wanted):
        return ChildRuntime(PLAIN, model, wanted, start_s=LIMIT_S)

    entry = Backend(build, frozenset(["tflite"]), BACKENDS["xnnpack"].version, device=True, own_process=True)
    monkeypatch.setitem(BACKENDS, "hosted", entry)
    file = model_file("conveyor", content=content)
    chosen = choose(file, ["hosted", "xnnpack"], threads=1, external={})
    assert (chosen.tried, chosen.runtime.info.delegate) == ((), "hosted")
    tensors = {spec.name: np.full(spec.shape, 3, spec.dtype) for spec in chosen.runtime.inputs}
    before = chosen.runtime.invoke(tensors)
    child = wait_for(
        lambda: [
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if b'"label":"hosted"' in read(path / "cmdline") and ppid(path) == os.getpid()
        ],
        "the child",
    )[0]
    os.kill(child, signal.SIGKILL)
    after = chosen.runtime.invoke(tensors)
    assert {name: array.tolist() for name, array in after.items()} == {
        name: array.tolist() for name, array in before.items()
    }
    assert chosen.runtime.info.delegate == "xnnpack"
    assert chosen.runtime.info.reason.startswith("hosted: its process died: SIGKILL")
    chosen.runtime.close()


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def ppid(process):
    fields = read(process / "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0

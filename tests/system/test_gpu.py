"""The GPU back-end on a Vulkan driver in software: the whole way through LiteRT's accelerator, without a GPU."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.errors import DeviceError, DeviceLostError
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.self_test import self_test_model
from edge_agent.ports import Runtime
from tests.io.runtimes.tiny_models import FLOAT, INT, LONG, Op, build, tensor, where
from tests.simulators.agent_toml import CONVEYOR, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.system import software_gpu

pytestmark = pytest.mark.system

MODEL = CONVEYOR / "model" / "conveyor.tflite"
RESTORED_S = 200.0  # first tried after half a minute, then after a minute more
RUNS_MOST = 100_000
STARTS_MOST = 4  # each goes on where the one before it was stopped
SOFTWARE = "EDGE_AGENT_SOFTWARE_GPU"


@pytest.fixture(scope="module")
def driver() -> dict[str, str]:
    if why := software_gpu.unavailable():
        pytest.skip(why)
    return software_gpu.environment()


@pytest.fixture(autouse=True)
def software(driver: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For the children of this process."""
    for name, value in driver.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def shaders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where those of the larger models are kept for this file's tests."""
    return tmp_path_factory.mktemp("shaders")


@pytest.fixture
def on_gpu() -> Iterator[Callable[..., Runtime]]:
    runtimes: list[Runtime] = []

    def start(model: bytes, cache_dir: Path | None = None) -> Runtime:
        runtimes.append(create(model, "gpu", threads=1, external={}, cache_dir=cache_dir))
        return runtimes[-1]

    yield start
    for runtime in runtimes:
        runtime.close()


def compiled(on_gpu: Callable[..., Runtime], model: bytes, cache_dir: Path) -> Runtime:
    """Tried again where the shaders took longer than a start may: what was compiled stays."""
    for _ in range(STARTS_MOST - 1):
        with suppress(DeviceError):
            return on_gpu(model, cache_dir)
    return on_gpu(model, cache_dir)


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def lsb(here: np.ndarray, there: np.ndarray) -> int:
    return int(np.abs(here.astype(int) - there.astype(int)).max())


def test_the_example_answers_within_one_step_of_the_processor(on_gpu: Callable[..., Runtime], shaders: Path) -> None:
    gpu = compiled(on_gpu, MODEL.read_bytes(), shaders)
    processor = create(MODEL.read_bytes(), "xnnpack", threads=1, external={})
    assert gpu.info.delegate == "gpu"
    assert gpu.info.delegated
    assert "llvmpipe" in gpu.info.runtime
    assert (gpu.inputs, gpu.outputs) == (tuple(processor.inputs), tuple(processor.outputs))
    draw = np.random.default_rng(3)
    for path in sorted((CONVEYOR / "media" / "frames").glob("*.jpg"))[:40]:
        pixels = cv2.resize(cv2.imread(str(path)), (96, 96), interpolation=cv2.INTER_AREA)[..., ::-1]
        image = (pixels ^ np.uint8(0x80)).view(np.int8)[None]
        tensors = {"image": image, "sensors": draw.integers(-60, 60, (1, 3)).astype(np.int8)}
        expected, found = processor.invoke(tensors)["fault"], gpu.invoke(tensors)["fault"]
        assert lsb(expected, found) <= 1, path
        assert expected.argmax() == found.argmax(), path


@pytest.mark.soak
def test_a_mobilenet_answers_as_closely_as_the_processors_kernels_among_themselves(
    on_gpu: Callable[..., Runtime], shaders: Path, shared: Path
) -> None:
    """Its rounding is not the processor's, and over 60 layers that adds up: XNNPACK is as far from TFLite's own kernels
    (15 steps of 256 at one of a thousand classes)."""
    model = (shared / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes()
    gpu = compiled(on_gpu, model, shaders)
    processor = create(model, "xnnpack", threads=2, external={})
    name = gpu.inputs[0].name
    pictures = sorted((shared / "images").glob("*.bmp"))
    assert pictures
    for path in pictures:
        pixels = cv2.resize(cv2.imread(str(path)), (224, 224))[None, ..., ::-1]
        expected, found = (next(iter(one.invoke({name: pixels}).values())) for one in (processor, gpu))
        assert expected.argmax() == found.argmax(), path
        assert lsb(expected, found) <= 16, path
        assert np.abs(expected.astype(int) - found.astype(int)).mean() < 0.2, path


def test_the_next_start_finds_all_shaders_on_the_disk(on_gpu: Callable[..., Runtime], tmp_path: Path) -> None:
    on_gpu(self_test_model(), tmp_path).close()
    kept = kept_bytes(tmp_path / "gpu")
    assert kept > 0
    on_gpu(self_test_model(), tmp_path).close()
    assert kept_bytes(tmp_path / "gpu") == kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:64] + bytes(byte ^ 0xFF for byte in content[64:]),
        lambda content: os.urandom(len(content)),
    ],
    ids=["emptied", "cut", "turned", "noise"],
)
def test_damaged_shaders_are_compiled_anew(
    on_gpu: Callable[..., Runtime], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    on_gpu(self_test_model(), tmp_path).close()
    files = [path for path in (tmp_path / "gpu").rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    x = np.arange(-32, 32, dtype=np.int8).reshape(1, 64)
    assert on_gpu(self_test_model(), tmp_path).invoke({"input": x})["output"].tolist() == x.tolist()


def test_a_driver_in_software_is_no_gpu(on_gpu: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SOFTWARE)
    with pytest.raises(DeviceError, match=r"^no GPU: llvmpipe .* is Vulkan in software, far slower than XNNPACK"):
        on_gpu(self_test_model())


def partly_known() -> bytes:
    """n = int(a - b) xor itself: the GPU knows no bits."""
    tensors = [tensor(name, [1, 8], kind) for name, kind in zip("abcdn", (FLOAT, FLOAT, FLOAT, INT, INT), strict=True)]
    return build(tensors, [(Op.SUB, [0, 1], [2]), (Op.CAST, [2], [3]), (Op.BITWISE_XOR, [3, 3], [4])], [0, 1], [4])


def unknown() -> bytes:
    """c = a xor b."""
    tensors = [tensor(name, [1, 8], INT) for name in "abc"]
    return build(tensors, [(Op.BITWISE_XOR, [0, 1], [2])], [0, 1], [2])


def in_64_bits() -> bytes:
    """b = long(a)."""
    return build([tensor("a", [1, 8]), tensor("b", [1, 8], LONG)], [(Op.CAST, [0], [1])], [0], [1])


def test_where_the_processor_must_help_that_is_told(on_gpu: Callable[..., Runtime]) -> None:
    runtime = on_gpu(partly_known())
    assert runtime.info.delegated
    assert runtime.info.reason.startswith("of 3 operations 2 run on the GPU, the others on the processor (BITWISE_XOR")
    assert runtime.invoke({"a": np.ones((1, 8), np.float32)})["n"].tolist() == [[0] * 8]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (unknown, "the GPU takes nothing of this model .BITWISE_XOR"),
        (in_64_bits, "tensor 'b' is int64"),
        (where, "tensor 'y' has a size that only a run decides"),
    ],
)
def test_what_a_gpu_can_not_run_is_refused_with_the_reason(
    on_gpu: Callable[..., Runtime], model: Callable[[], bytes], reason: str
) -> None:
    with pytest.raises(DeviceError, match=reason):
        on_gpu(model())


def test_a_model_that_kills_the_accelerator_kills_its_process_alone(
    on_gpu: Callable[..., Runtime], shared: Path
) -> None:
    """TFLite_Detection_PostProcess, with LiteRT 2.3."""
    with pytest.raises(DeviceLostError, match=r"its process died: SIGABRT \(Check failed: "):
        on_gpu((shared / "models" / "traffic_model.tflite").read_bytes())


def test_other_threads_go_on_while_shaders_are_compiled_and_while_they_run(on_gpu: Callable[..., Runtime]) -> None:
    over, ticks = threading.Event(), 0

    def tick() -> None:
        nonlocal ticks
        while not over.wait(0.005):
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        runtime = on_gpu(self_test_model())
        built = ticks
        assert built > 50
        for _ in range(RUNS_MOST):
            runtime.invoke({})
            if ticks > built + 10:
                break
        else:
            pytest.fail(f"{ticks - built} ticks during {RUNS_MOST} runs")
    finally:
        over.set()
        ticker.join()


def test_the_daemon_predicts_on_the_gpu_and_on_the_processor_when_its_process_dies(
    broker: Mosquitto,
    subscriber: Subscriber,
    daemon: Callable[..., Daemon],
    on_gpu: Callable[..., Runtime],
    driver: dict[str, str],
    shaders: Path,
    tmp_path: Path,
) -> None:
    compiled(on_gpu, MODEL.read_bytes(), shaders).close()
    shutil.copytree(shaders / "gpu", tmp_path / "cache" / "edge-agent" / "gpu")
    model = f'[model.conveyor]\npath = "{MODEL}"\ndelegates = ["gpu", "xnnpack"]\n'
    process = daemon(head(broker.port) + belt(fps=5) + machine() + inspect() + model, **driver)
    process.wait_ready()
    wait_for(lambda: delegates(subscriber)[-3:] == ["gpu"] * 3, "predictions from the GPU")
    os.kill(child_of(process.process.pid), signal.SIGKILL)
    wait_for(lambda: delegates(subscriber)[-3:] == ["xnnpack"] * 3, "predictions from the processor")
    lost = wait_for(lambda: subscriber.events("delegate_lost"), "the event")[0]
    assert lost["detail"].startswith("gpu: its process died: SIGKILL; the system stopped it"), lost
    numbers = [prediction["seq"] for prediction in subscriber.predictions()]
    assert numbers == list(range(len(numbers)))  # the sample that was there is not lost
    wait_for(lambda: subscriber.events("delegate_restored"), "the GPU is back", RESTORED_S)
    wait_for(lambda: delegates(subscriber)[-1] == "gpu", "predictions from the GPU again")
    assert process.stop() == 0
    assert "Traceback" not in process.log


def delegates(subscriber: Subscriber) -> list[str]:
    return [prediction["delegate"] for prediction in subscriber.predictions()]


def child_of(pid: int) -> int:
    """The process that hosts the model."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"child_host" in (stat.parent / "cmdline").read_bytes():
                return int(stat.parent.name)
    raise AssertionError(f"{pid} hosts no model")

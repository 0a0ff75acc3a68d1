"""A device that is lost in the middle of a run: the next back-end takes over, and the device comes back."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from edge_agent import limits
from edge_agent.config.schema import DelegateConfig
from edge_agent.errors import DeviceError, DeviceLostError, ModelError
from edge_agent.io.runtimes import backends, plugins_of
from edge_agent.io.runtimes.builder import Builder
from edge_agent.io.runtimes.candidates import CPU_MEMBER, Candidate, candidates
from edge_agent.io.runtimes.choose import Choice
from edge_agent.io.runtimes.external import HELD
from edge_agent.io.runtimes.failover import Change, FailoverRuntime
from edge_agent.io.runtimes.litert import LiteRtRuntime
from edge_agent.io.runtimes.probe import Probe
from edge_agent.io.runtimes.probe_cache import ProbeCache
from tests.io.runtimes import tiny_models
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED
from tests.simulators.waiting import wait_for

PICTURE = {"input": np.random.default_rng(7).integers(0, 256, (1, 128, 128, 3), np.uint8)}
BOTH = ("npu", "xnnpack")


@dataclass
class Bench:
    """What runs a model on the test delegate, and what it said of it."""

    bus: object
    external: dict[str, DelegateConfig]
    cache_dir: object = None
    changes: list[Change] = field(default_factory=list)
    made: list[FailoverRuntime] = field(default_factory=list)

    def run(self, file, order=BOTH, *, position=0, follow=True) -> FailoverRuntime:
        """Built as a choice does, without the trial in a child beforehand."""
        declared = {name: backends(plugins_of(self.external))[name] for name in order}
        found = [entry for entry in candidates(file, declared, None) if isinstance(entry, Candidate)]
        builder = Builder(threads=1, external=self.external, cache_dir=self.cache_dir)
        runtime = FailoverRuntime(builder.at_once(found[position]), found, position, builder)
        self.made.append(runtime)
        if follow:
            runtime.follow(self.changes.append)
        return runtime

    def said(self, kind):
        return [change.detail for change in self.changes if change.kind == kind]


@pytest.fixture
def bench(bus, npu, monkeypatch):
    monkeypatch.setattr(limits, "DELEGATE_RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(limits, "DELEGATE_RETRY_LAST_S", 0.02)
    made = Bench(bus, npu(bus=str(bus.folder)))
    yield made
    for runtime in made.made:
        runtime.close()


def of_the_device(outputs, fill=7):
    return all(set(value.ravel()) == {fill} for value in outputs.values())


class TestLoss:
    @pytest.mark.parametrize("loss", ["unplugged", "invoke-error"])
    def test_the_sample_that_failed_is_answered_by_the_next_back_end(self, bench, model, model_file, loss):
        runtime = bench.run(model_file(CLASSIFIER))
        assert of_the_device(runtime.invoke(PICTURE))
        bench.bus.unplug() if loss == "unplugged" else bench.bus.behave(loss)
        answer = runtime.invoke(PICTURE)
        truth = LiteRtRuntime(model(CLASSIFIER)).invoke(PICTURE)
        assert {name: value.tolist() for name, value in answer.items()} == {
            name: value.tolist() for name, value in truth.items()
        }
        assert runtime.info.delegate == "xnnpack"
        reason = "npu: the run failed: test delegate: USB transfer error device unplugged"
        assert runtime.info.reason.startswith(reason)
        assert runtime.info.reason.endswith("; using xnnpack")
        (said,) = bench.said("delegate_lost")
        assert said == f"{runtime.info.reason}; npu is tried again in 0.02 s"
        assert runtime.losses == 1

    def test_one_failed_run_is_repeated_and_changes_nothing(self, bench, model_file):
        runtime = bench.run(model_file(CLASSIFIER))
        bench.bus.behave("hiccup")
        answer = run_with_one_hiccup(bench, runtime)
        assert of_the_device(answer)
        assert (runtime.losses, runtime.repeats, bench.changes) == (0, 1, [])

    def test_an_input_that_no_back_end_takes_is_the_models_affair(self, bench, model_file):
        content = tiny_models.reshape()
        runtime = bench.run(model_file("reshape", content=content))
        bad = {"x": np.zeros((1, 4), np.float32), "shape": np.array([3, 3], np.int32)}
        bench.bus.behave("invoke-error")
        for _ in range(2 * limits.DELEGATE_FAILURES_MOST):
            with pytest.raises(ModelError, match="xnnpack: the run failed"):
                runtime.invoke(bad)
        assert (runtime.info.delegate, runtime.losses) == ("npu", 0)

    def test_a_tensor_that_does_not_fit_costs_no_device(self, bench, model_file):
        runtime = bench.run(model_file(CLASSIFIER))
        with pytest.raises(ModelError, match="takes uint8"):
            runtime.invoke({"input": np.zeros((2, 2), np.uint8)})
        assert (runtime.info.delegate, runtime.losses) == ("npu", 0)

    def test_a_compiled_model_gives_way_to_the_cpu_build_inside(self, bench, model, model_file):
        bench.external = {"edgetpu": bench.external["npu"]}
        file = model_file(COMPILED, members={CPU_MEMBER: model(CLASSIFIER)})
        runtime = bench.run(file, ("edgetpu", "xnnpack"))
        assert of_the_device(runtime.invoke(PICTURE))
        bench.bus.unplug()
        assert not of_the_device(runtime.invoke(PICTURE))
        assert runtime.info.reason.endswith("; using the CPU build of the model on xnnpack")

    def test_without_a_stand_in_three_failures_are_a_loss_and_the_device_may_still_come_back(self, bench, model_file):
        runtime = bench.run(model_file(CLASSIFIER), ("npu",))
        assert "no fall-back: " in runtime.info.reason
        bench.bus.unplug()
        for _ in range(limits.DELEGATE_FAILURES_MOST - 1):
            with pytest.raises(ModelError):
                runtime.invoke(PICTURE)
        for _ in range(2):
            with pytest.raises(DeviceLostError, match="nothing stands in for it"):
                runtime.invoke(PICTURE)
        assert len(bench.said("delegate_lost")) == 1
        bench.bus.plug()

        def runs():
            try:
                return runtime.invoke(PICTURE)
            except DeviceLostError:
                return None

        assert of_the_device(wait_for(runs, "the device is back"))
        assert "nothing stood in for it" in bench.said("delegate_restored")[0]

    def test_a_loss_before_anybody_follows_is_told_then(self, bench, model_file):
        runtime = bench.run(model_file(CLASSIFIER), follow=False)
        bench.bus.unplug()
        assert runtime.invoke(PICTURE)
        runtime.follow(bench.changes.append)
        assert bench.said("delegate_lost") == [runtime.info.reason]


def run_with_one_hiccup(bench, runtime):
    """The device is well again before the second try: its file says so once the first has failed."""
    inner = runtime._runtime
    first = inner.invoke

    def invoke(tensors):
        try:
            return first(tensors)
        finally:
            bench.bus.behave("success")

    inner.invoke = invoke
    return runtime.invoke(PICTURE)


class TestReturn:
    def test_each_attempt_after_a_short_life_is_later_and_after_a_long_one_soon_again(
        self, bench, model_file, monkeypatch
    ):
        monkeypatch.setattr(limits, "DELEGATE_RETRY_FIRST_S", 30.0)
        monkeypatch.setattr(limits, "DELEGATE_RETRY_LAST_S", 100.0)
        runtime = bench.run(model_file(CLASSIFIER))
        keeper = runtime._keeper
        assert [keeper.lost(0, None, 5.0, {0}) for _ in range(4)] == [30.0, 60.0, 100.0, 100.0]
        assert [keeper.lost(0, None, lived_s, {0}) for lived_s in (limits.DELEGATE_STEADY_S, 5.0)] == [30.0, 60.0]

    def test_a_stick_that_was_not_there_at_the_start_is_taken_when_it_is(self, bench, model, model_file):
        bench.external = {"edgetpu": bench.external["npu"]}
        bench.bus.unplug()
        file = model_file(COMPILED, members={CPU_MEMBER: model(CLASSIFIER)})
        runtime = bench.run(file, ("edgetpu", "xnnpack"), position=1)
        assert not of_the_device(runtime.invoke(PICTURE))
        bench.bus.plug()
        wait_for(lambda: of_the_device(runtime.invoke(PICTURE)), "the device is taken")
        assert runtime.info.delegate == "edgetpu"

    def test_a_build_with_other_tensors_never_stands_in(self, bench, model_file):
        bench.external = {"edgetpu": bench.external["npu"]}
        file = model_file(COMPILED, members={CPU_MEMBER: tiny_models.where()})
        runtime = bench.run(file, ("edgetpu", "xnnpack"))
        (said,) = wait_for(lambda: bench.said("delegate_no_fallback"), "it is said beforehand")
        assert said.startswith(
            "no fall-back: the CPU build of the model on xnnpack: its tensors are others: input 'input'"
        )
        assert said == runtime.info.reason
        bench.bus.unplug()
        for _ in range(limits.DELEGATE_FAILURES_MOST - 1):
            with pytest.raises(ModelError):
                runtime.invoke(PICTURE)
        with pytest.raises(DeviceLostError):
            runtime.invoke(PICTURE)

    def test_a_slow_device_comes_back_between_two_runs_and_the_other_threads_keep_their_beat(
        self, bench, model_file, monkeypatch
    ):
        runtime = bench.run(model_file(CLASSIFIER))
        bench.bus.unplug()
        assert runtime.invoke(PICTURE)
        ticks, done = [], threading.Event()

        def tick():
            while not done.wait(0.005):
                ticks.append(time.monotonic())

        monkeypatch.setenv("TEST_DELEGATE_MODE", "slow-start")
        ticker = threading.Thread(target=tick)
        ticker.start()
        bench.bus.plug()
        wait_for(lambda: of_the_device(runtime.invoke(PICTURE)), "the slow device is back")
        done.set()
        ticker.join()
        assert (runtime.info.delegate, runtime.info.reason) == ("npu", "")
        (said,) = bench.said("delegate_restored")
        assert said.startswith("npu runs the model again; xnnpack stood in for it for ")
        gaps = np.diff(ticks)
        print(f"longest gap {1000 * gaps.max():.0f} ms of {1000 * (ticks[-1] - ticks[0]):.0f} ms")
        assert gaps.max() < SLOW_START_S  # were the lock held meanwhile, one gap would be all of it


SLOW_START_S = 1.5  # of the delegate's mode "slow-start"


class TestOneProcess:
    def test_a_device_that_this_process_has_is_not_tried_in_a_child(self, bench, model, model_file, monkeypatch):
        external = {"edgetpu": bench.external["npu"]}
        bench.external = external
        first = bench.run(model_file(COMPILED), ("edgetpu",))
        monkeypatch.setattr(sys, "executable", "/nonexistent")  # a child can't start any more
        chosen = Choice(model_file(COMPILED), ("edgetpu",), threads=1, external=external).result()
        assert of_the_device(first.invoke(PICTURE))
        assert of_the_device(chosen.runtime.invoke(PICTURE))
        chosen.runtime.close()
        first.close()
        with pytest.raises(DeviceError, match="can't be probed"):
            Choice(model_file(COMPILED), ("edgetpu",), threads=1, external=external).result()

    def test_two_pipelines_that_start_together_both_get_the_one_device(self, bench, model_file):
        external = {"edgetpu": bench.external["npu"]}
        choices = [Choice(model_file(COMPILED), ("edgetpu",), threads=1, external=external) for _ in range(2)]
        runtimes = [choice.result().runtime for choice in choices]
        assert all(of_the_device(runtime.invoke(PICTURE)) for runtime in runtimes)
        for runtime in runtimes:
            runtime.close()

    def test_a_closed_runtime_gives_its_device_to_other_processes(self, bench, model_file, bus):
        held = bench.run(model_file(CLASSIFIER))

        def tried_elsewhere():
            return Probe(model_file(CLASSIFIER).content, "npu", threads=1, external=bench.external).result()

        assert "another process's" in tried_elsewhere().reason
        held.close()
        assert tried_elsewhere().usable

    def test_another_model_gets_the_device_that_only_this_process_can_have(self, bench, model, model_file, tmp_path):
        """A child is asked first, and says so; nothing is remembered of what only this process has tried."""
        bench.cache_dir = tmp_path
        bench.run(model_file(CLASSIFIER))
        other = model_file("other", content=model(CLASSIFIER) + b" ")
        chosen = Choice(other, BOTH, threads=1, external=bench.external, cache_dir=tmp_path).result()
        assert (chosen.runtime.info.delegate, chosen.tried) == ("npu", ())
        assert ProbeCache(tmp_path).library_of(chosen.failover._candidates[0].key) is None
        chosen.runtime.close()

    def test_what_killed_the_child_is_not_tried_here(self, bench, bus, npu, model_file, monkeypatch):
        bench.external = npu(mode=None, bus=str(bus.folder))
        bench.run(model_file(CLASSIFIER))
        monkeypatch.setenv("TEST_DELEGATE_MODE", "abort-at-once")
        chosen = Choice(model_file(CLASSIFIER), BOTH, threads=1, external=bench.external).result()
        assert chosen.runtime.info.delegate == "xnnpack"
        assert "SIGABRT" in chosen.runtime.info.reason

    def test_two_devices_run_two_models(self, bus, npu, model_file):
        bus.plug("usb:1")
        left = npu(name="left", bus=str(bus.folder), device="usb:0", fill="1")
        right = npu(name="right", bus=str(bus.folder), device="usb:1", fill="1")
        bench = Bench(bus, {**left, **right})
        first = bench.run(model_file(CLASSIFIER), ("left", "cpu"))
        second = bench.run(model_file(CLASSIFIER), ("right", "cpu"))
        bus.unplug("usb:1")
        assert not of_the_device(second.invoke(PICTURE), 1)
        assert of_the_device(first.invoke(PICTURE), 1)
        assert (first.info.delegate, second.info.delegate) == ("left", "cpu")
        first.close()
        second.close()

    @pytest.mark.parametrize("follow", [True, False], ids=["while-it-runs", "in-its-first-runs"])
    def test_of_two_devices_the_second_takes_over_from_the_processor_that_took_over_at_once(
        self, bench, bus, npu, model_file, tmp_path, follow
    ):
        bus.plug("usb:1")
        left = npu(name="left", bus=str(bus.folder), device="usb:0", fill="1")
        right = npu(name="right", bus=str(bus.folder), device="usb:1", fill="2")
        bench.external, bench.cache_dir = {**left, **right}, tmp_path / "cache"
        runtime = bench.run(model_file(CLASSIFIER), ("left", "right", "cpu"), follow=follow)
        assert of_the_device(runtime.invoke(PICTURE), 1)
        bus.unplug("usb:0")
        runtime.invoke(PICTURE)
        assert runtime.info.delegate == "cpu"
        if not follow:
            runtime.follow(bench.changes.append)
        wait_for(lambda: of_the_device(runtime.invoke(PICTURE), 2), "the second device runs the model")
        bus.plug("usb:0")
        wait_for(lambda: runtime.invoke(PICTURE) and runtime.info.delegate == "left", "the first is back")
        assert len(bench.said("delegate_restored")) == 2
        assert runtime.losses == 1
        keeper = runtime._keeper
        runtime.close()
        keeper.join(10.0)
        assert ProbeCache(tmp_path / "cache")._read().used == ()  # neither will be taken for what killed this process

    def test_while_no_frame_comes_a_better_device_takes_the_place_of_the_one_that_waits(
        self, bench, bus, npu, model_file
    ):
        bus.plug("usb:1")
        left = npu(name="left", bus=str(bus.folder), device="usb:0", fill="1")
        right = npu(name="right", bus=str(bus.folder), device="usb:1", fill="2")
        bench.external = {**left, **right}
        runtime = bench.run(model_file(CLASSIFIER), ("left", "right", "cpu"))
        bus.unplug("usb:0")
        runtime.invoke(PICTURE)
        keeper = runtime._keeper
        wait_for(lambda: keeper._arrival is not None and keeper._arrival[0] == 1, "the second waits")
        bus.plug("usb:0")
        wait_for(lambda: keeper._arrival[0] == 0, "the first waits")
        assert backends(plugins_of(bench.external))["right"].plugin not in HELD
        assert of_the_device(runtime.invoke(PICTURE), 1)


class TestDeaths:
    """What a library does to its process in the middle of a run is known to the next one."""

    def test_after_two_deaths_the_next_start_does_without(self, bus, npu, model, delegate_library, tmp_path):
        (tmp_path / "model.tflite").write_bytes(model(CLASSIFIER))
        script = f"""
import hashlib, sys
from pathlib import Path
from edge_agent.config.schema import DelegateConfig
from edge_agent.io.runtimes.choose import choose
from edge_agent.records import ModelFile
content = Path("model.tflite").read_bytes()
file = ModelFile("model.tflite", content, hashlib.sha256(content).hexdigest(), None, None, {{}})
external = {{"npu": DelegateConfig(library={str(delegate_library)!r}, options={{"bus": {str(bus.folder)!r}}})}}
chosen = choose(file, ("npu", "cpu"), threads=1, external=external, cache_dir=Path.cwd())
if chosen.failover: chosen.failover.follow(lambda change: None)
print(chosen.runtime.info.delegate, chosen.runtime.info.reason, flush=True)
sys.stdin.readline()
chosen.runtime.invoke({{}})
if sys.argv[1:]: chosen.failover.close()
"""

        def start(mode, *arguments):
            bus.plug()
            process = subprocess.Popen(
                [sys.executable, "-c", script, *arguments],
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            said = process.stdout.readline().strip()
            bus.behave(mode)
            if mode == "hang-in-run":  # and the service manager's watchdog ends it
                process.stdin.write("\n")
                process.stdin.flush()
                process.kill()
            process.communicate("\n")
            return said, process.returncode

        assert start("success", "close") == ("npu", 0)
        assert start("hang-in-run") == ("npu", -signal.SIGKILL)
        assert start("abort") == ("npu", -signal.SIGABRT)
        said, status = start("abort")
        assert said == "cpu npu: the process died or hung twice while this library ran; using cpu"
        assert status == 0
        assert start("success", "close") == ("npu", 0)  # it had its rest

    def test_notes_of_another_boot_of_the_machine_mean_nothing(self, tmp_path, monkeypatch, model_file, npu):
        from edge_agent.io.runtimes import probe_cache

        key = probe_cache.Key.of("ab" * 32, "npu", "r", None)
        boots = tmp_path / "boot_id"
        monkeypatch.setattr(probe_cache, "_BOOT_ID", boots)
        boots.write_text("one\n")
        for process in ("a", "b"):
            monkeypatch.setattr(probe_cache, "_PROCESS", process)
            ProbeCache(tmp_path).begin(key)
            ProbeCache(tmp_path).begin(key)  # two pipelines
        assert ProbeCache(tmp_path).deaths(key) == 1
        monkeypatch.setattr(probe_cache, "_PROCESS", "c")
        assert ProbeCache(tmp_path).deadly(key)
        boots.write_text("two\n")
        assert ProbeCache(tmp_path).deaths(key) == 0

"""Devices that processes and runtimes share, and what a library that kills its process leaves behind."""

import signal
import subprocess
import sys

import pytest

from edge_agent.errors import DeviceError
from edge_agent.io.runtimes import backends, plugins_of
from edge_agent.io.runtimes.choose import Choice
from edge_agent.io.runtimes.external import HELD
from edge_agent.io.runtimes.probe import Probe
from edge_agent.io.runtimes.probe_cache import ProbeCache
from tests.io.runtimes.failover_bench import BOTH, PICTURE, Bench, of_the_device
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED
from tests.simulators.waiting import wait_for


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

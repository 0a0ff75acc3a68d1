"""A device that is lost in the middle of a run: the next back-end takes over, and the device comes back."""

import threading
import time

import numpy as np
import pytest

from edge_agent import limits
from edge_agent.errors import DeviceLostError, ModelError
from edge_agent.io.runtimes.candidates import CPU_MEMBER
from edge_agent.io.runtimes.litert import LiteRtRuntime
from tests.io.runtimes import tiny_models
from tests.io.runtimes.failover_bench import PICTURE, of_the_device
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED
from tests.simulators.waiting import wait_for


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

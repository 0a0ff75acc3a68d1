"""A device that is pulled out while a model is on trial: no fault of the model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.daemon import Daemon
from tests.simulators.delegate import Bus, compiled
from tests.simulators.ota_models import PIPELINE, brightness
from tests.simulators.ota_site import OtaSite
from tests.simulators.waiting import wait_for

TRIAL_S = 15.0
DARK = 0.0


@pytest.fixture
def site(tmp_path: Path, daemon: Callable[..., Daemon], bus: Bus, request: pytest.FixtureRequest) -> Iterator[OtaSite]:
    """Its model on the test delegate, to which each picture is as dark as the golden one."""
    order = getattr(request, "param", '"npu", "xnnpack"')
    library = compiled(tmp_path / "libtestdelegate.so")
    factory = tmp_path / "factory.tflite"
    factory.write_bytes(brightness("1.0.0", golden=DARK))
    model = f'[model.conveyor]\npath = "{factory}"\ndelegates = [{order}]\n'
    plugin = f'[delegate.npu]\nlibrary = "{library}"\noptions = {{ bus = "{bus.folder}", fill = "0" }}\n'
    site = OtaSite(tmp_path, daemon, rest=PIPELINE + model + plugin)
    yield site
    site.close()


def last(site: OtaSite) -> dict[str, Any]:
    found: dict[str, Any] = site.subscriber.predictions()[-1]
    return found


def test_a_model_whose_device_is_lost_during_its_trial_goes_on_without_it_and_is_committed(
    site: OtaSite, bus: Bus
) -> None:
    site.subscriber.wait_predictions(1)
    assert last(site)["delegate"] == "npu"
    rollout = site.roll_out(site.publish("2.0.0", brightness("2.0.0", golden=DARK)), trial_s=TRIAL_S, share=0.3)
    site.wait_version("2.0.0")  # on the device too, which the examining child could not have
    bus.unplug()
    wait_for(lambda: last(site)["delegate"] == "xnnpack", "the next back-end runs it")
    ended = site.wait_end(rollout)
    assert (ended["state"], ended["reason"]) == ("committed", None)
    site.wait_version("2.0.0")
    predictions = site.subscriber.predictions()
    assert {item["delegate"] for item in predictions if item["model"]["version"] == "2.0.0"} == {"npu", "xnnpack"}
    assert site.stats()["discards"].keys() <= {"shutdown"}
    assert site.subscriber.events("invoke_failed") == []
    assert site.subscriber.events("delegate_fallback") == []

    site.wait_end(site.roll_out(site.publish("3.0.0", brightness("3.0.0", golden=DARK))))
    (said,) = site.subscriber.events("delegate_fallback")
    assert said["subject"] == "inspect"
    assert said["detail"].endswith("; using xnnpack")


@pytest.mark.parametrize("site", ['"npu"'], indirect=True)
def test_where_only_a_device_is_declared_a_model_is_examined_on_the_processor(site: OtaSite) -> None:
    site.subscriber.wait_predictions(1)
    ended = site.wait_end(site.roll_out(site.publish("2.0.0", brightness("2.0.0", golden=DARK))))
    assert (ended["state"], ended["reason"]) == ("committed", None)
    site.wait_version("2.0.0")
    assert last(site)["delegate"] == "npu"

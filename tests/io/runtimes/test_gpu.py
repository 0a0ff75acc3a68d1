"""The GPU back-end where there is no GPU, which is here: why it can't be used, and where it keeps its shaders.

What it computes on a Vulkan driver in software is in tests/system/test_gpu.py.
"""

import os
from pathlib import Path

import pytest

from edge_agent.config.checks import BUILT_IN_DELEGATES
from edge_agent.errors import ConfigError, DeviceError, DeviceLostError, ModelError
from edge_agent.io.runtimes import BACKENDS, create, gpu, kept_folder
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.choose import choose
from edge_agent.io.runtimes.self_test import self_test_model
from tests.io.runtimes import hosted
from tests.io.runtimes.real_models import COMPILED

HOSTED = "tests.io.runtimes.hosted:build"
SHADERS = "MESA_SHADER_CACHE_DIR"


@pytest.fixture
def no_driver(monkeypatch):
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.setenv(name, "/nowhere")


def on_gpu(model, cache_dir=None):
    return create(model, "gpu", threads=1, external={}, cache_dir=cache_dir)


def test_where_no_driver_is_installed_the_next_back_end_runs_and_the_reason_is_told(no_driver, model_file):
    chosen = choose(model_file("add", content=self_test_model()), ["gpu", "xnnpack"], threads=1, external={})
    assert chosen.runtime.info.delegate == "xnnpack"
    assert chosen.tried[0][0] == "gpu"
    assert "install the GPU's own Vulkan driver, or mesa-vulkan-drivers of 25 or later" in chosen.tried[0][1]
    assert chosen.runtime.info.reason.endswith("; using xnnpack")
    chosen.runtime.close()


def test_a_vulkan_loader_that_can_not_be_loaded_is_named(no_driver, monkeypatch, tmp_path):
    (tmp_path / "libvulkan.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"^no Vulkan adapter \(Couldn't load Vulkan: .*libvulkan\.so\.1"):
        on_gpu(self_test_model())


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0" * 64])
def test_a_damaged_model_is_the_models_fault(no_driver, content):
    with pytest.raises(ModelError):
        on_gpu(content)


def test_a_model_for_the_edge_tpu_is_not_tried(model_file):
    with pytest.raises(DeviceError, match="this model is compiled for the Edge TPU and none is available"):
        choose(model_file(COMPILED), ["gpu"], threads=1, external={})


def test_the_frozen_library_has_no_gpu(model_file):
    with pytest.raises(ConfigError, match="tflite-runtime has no GPU accelerator"):
        gpu.version("tflite-runtime")
    assert gpu.version(None).startswith("ai-edge-litert ")


class TestShaders:
    """What the driver gets to see, told by a back-end that only adds one."""

    @pytest.fixture(autouse=True)
    def entry(self, monkeypatch):
        monkeypatch.setattr(gpu, "_ENTRY", HOSTED)

    def folder_of(self, runtime) -> str:
        variables = Path(f"/proc/{runtime.pid}/environ").read_bytes().split(b"\0")
        return next((entry[22:].decode() for entry in variables if entry.startswith(f"{SHADERS}=".encode())), "")

    def opened(self, model, cache_dir=None) -> str:
        runtime = gpu.open_runtime(model, Build("gpu", cache_dir=cache_dir))
        folder = self.folder_of(runtime)
        runtime.close()
        return folder

    def test_each_model_has_a_folder_of_its_own_and_the_oldest_goes(self, monkeypatch, tmp_path):
        monkeypatch.setattr(kept_folder, "_KEPT", 2)
        one, two, three = (hosted.model() + b" " * number for number in range(3))
        folders = [Path(self.opened(model, tmp_path)) for model in (one, two)]
        for age, folder in enumerate(folders):
            (folder / "shader").write_text("compiled")
            os.utime(folder, ns=(age * 10**9, age * 10**9))
        assert self.opened(one, tmp_path) == str(folders[0])  # used: the newest from now on
        newest = Path(self.opened(three, tmp_path))
        assert set((tmp_path / "gpu").iterdir()) == {folders[0], newest}
        assert (folders[0] / "shader").exists()

    def test_without_a_folder_nothing_is_kept(self, monkeypatch):
        monkeypatch.delenv(SHADERS, raising=False)
        assert self.opened(hosted.model()) == ""
        assert "MESA_SHADER_CACHE_DISABLE" in gpu._environment(None)

    def test_a_folder_that_can_not_be_made_costs_the_shaders_alone(self, tmp_path):
        (tmp_path / "gpu").write_text("a file in its place")
        assert self.opened(hosted.model(), tmp_path) == ""

    def test_shaders_that_kill_the_driver_are_thrown_away(self, tmp_path):
        model = hosted.model(build="abort where there are shaders")
        folder = Path(self.opened(model, tmp_path))
        (folder / "shader").write_text("damaged")
        assert self.opened(model, tmp_path) == str(folder)
        assert list(folder.iterdir()) == []

    def test_a_model_that_kills_the_driver_does_so_once(self, tmp_path):
        model = hosted.model(build="abort")
        for _ in range(2):
            with pytest.raises(DeviceLostError, match="its process died: SIGABRT"):
                self.opened(model, tmp_path)


def test_the_configuration_may_name_every_back_end_that_there_is():
    assert set(BUILT_IN_DELEGATES) == set(BACKENDS)

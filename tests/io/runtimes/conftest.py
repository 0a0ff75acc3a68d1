"""Real models, a real delegate compiled by the system's C compiler, and the small helpers that the tests share."""

import hashlib
from pathlib import Path

import pytest

from edge_agent import limits
from edge_agent.config.schema import DelegateConfig
from edge_agent.records import ModelFile
from tests.io.runtimes.failover_bench import Bench
from tests.simulators.delegate import compiled


@pytest.fixture(scope="session")
def model(shared):
    """The bytes of a real model by its name."""

    def read(name: str) -> bytes:
        path = shared / "models" / f"{name}.tflite"
        if not path.exists():
            pytest.skip(f"the real model {path.name} is not here")
        return path.read_bytes()

    return read


@pytest.fixture(scope="session")
def delegate_library(tmp_path_factory) -> Path:
    return compiled(tmp_path_factory.mktemp("delegate") / "libtestdelegate.so")


@pytest.fixture(scope="session")
def misfit_library(tmp_path_factory) -> Path:
    """The same delegate, built for another interpreter than ours."""
    return compiled(tmp_path_factory.mktemp("misfit") / "libtestdelegate.so", "-DWRONG_ABI")


@pytest.fixture(scope="session")
def npu(delegate_library):
    """The configuration of the test delegate under the name "npu", with what shall go wrong."""

    def configured(mode: str | None = "success", name: str = "npu", **options: str) -> dict[str, DelegateConfig]:
        chosen = {**({"mode": mode} if mode else {}), **options}
        return {name: DelegateConfig(library=str(delegate_library), options=chosen)}

    return configured


@pytest.fixture(scope="session")
def model_file(model):
    """A model as the daemon's reader hands it over."""

    def read(name: str, *, content: bytes | None = None, members: dict[str, bytes] | None = None) -> ModelFile:
        data = model(name) if content is None else content
        return ModelFile(
            path=f"{name}.tflite",
            content=data,
            sha256=hashlib.sha256(data).hexdigest(),
            card=None,
            metadata=None,
            members=members or {},
            form="edgetpu" if b"edgetpu-custom-op" in data else "tflite",
        )

    return read


@pytest.fixture
def bench(bus, npu, monkeypatch):
    monkeypatch.setattr(limits, "DELEGATE_RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(limits, "DELEGATE_RETRY_LAST_S", 0.02)
    made = Bench(bus, npu(bus=str(bus.folder)))
    yield made
    for runtime in made.made:
        runtime.close()

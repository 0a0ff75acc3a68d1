"""The parts of one daemon: put in by agent.py, read by control.py and reports.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event as ThreadEvent
from typing import TYPE_CHECKING

from edge_agent.assembly import LoadedModel
from edge_agent.config.load import LoadedConfig
from edge_agent.config.schema import Config
from edge_agent.core.wire import Topics
from edge_agent.io.systemd import Notifier
from edge_agent.ports import Clock
from edge_agent.records import Event
from edge_agent.stages.capture import CameraWorker
from edge_agent.stages.drift import DriftWorker
from edge_agent.stages.http import HttpWorker
from edge_agent.stages.pipeline import Pipeline
from edge_agent.stages.publisher import Publisher
from edge_agent.stages.results import ResultStage
from edge_agent.stages.sensing import SensorWorker
from edge_agent.stages.storage import StorageWorker
from edge_agent.stages.upkeep import Upkeep
from edge_agent.stages.worker import Worker

if TYPE_CHECKING:
    from edge_agent.updating.worker import Updater  # it uses the parts itself


def _nobody(_pipeline: str, _model: LoadedModel) -> None:
    """Nothing is told, and nothing that is lost is tried again."""


@dataclass
class Parts:
    """Models, stages and pipelines by the pipeline's name; cameras and sensors by their own."""

    loaded: LoadedConfig
    boot_id: str
    topics: Topics
    clock: Clock
    notifier: Notifier
    stopping: ThreadEvent
    emit: Callable[[Event], None]
    publisher: Publisher = field(init=False)
    storage: StorageWorker = field(init=False)
    upkeep: Upkeep = field(init=False)
    models: dict[str, LoadedModel] = field(default_factory=dict)
    stages: dict[str, ResultStage] = field(default_factory=dict)
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    cameras: dict[str, CameraWorker] = field(default_factory=dict)
    sensors: dict[str, SensorWorker] = field(default_factory=dict)
    drift: DriftWorker | None = None  # None: not wanted
    updater: Updater | None = None  # None: its folder can't be used
    follow: Callable[[str, LoadedModel], None] = _nobody  # tells of each change of a pipeline's back-end from now on
    http: HttpWorker | None = None  # None: nothing listens
    failure: BaseException | None = None  # what a worker died of: the process ends, and not in an orderly way

    @property
    def config(self) -> Config:
        return self.loaded.config

    def updaters(self) -> list[Worker]:
        return [] if self.updater is None else [self.updater.errands, self.updater]

    def workers(self) -> list[Worker]:
        """In the order in which they start: who takes before who gives."""
        givers = (*self.pipelines.values(), *self.sensors.values(), *self.cameras.values(), *self.updaters())
        others = [worker for worker in (self.drift, self.http) if worker is not None]
        return [self.storage, self.publisher, self.upkeep, *others, *givers]

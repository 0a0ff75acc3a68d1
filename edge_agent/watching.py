"""Puts the watch on drift together, for the pipelines and cameras of a daemon."""

from __future__ import annotations

import secrets

from edge_agent.config.schema import CameraConfig, DriftConfig
from edge_agent.core.data_quality import CameraLook, state_of
from edge_agent.core.drift.chance import Chance
from edge_agent.core.sample_choice import SPACING_NS, SampleChoice
from edge_agent.io.cameras import is_live
from edge_agent.io.drift_state import DriftFolder
from edge_agent.io.sample_store import FOLDER, SampleFolder
from edge_agent.loading import drift_folder
from edge_agent.parts import Parts
from edge_agent.records import DiscardReason
from edge_agent.stages.drift import DriftWorker
from edge_agent.stages.pipeline import Pipeline
from edge_agent.stages.sampling import Choices, Sampling, Waiting
from edge_agent.stages.watch import Site, Watch
from edge_agent.stages.watched import Watched
from edge_agent.stages.worker import Services


def make_drift(parts: Parts, services: Services) -> DriftWorker | None:
    """Taps every pipeline. None where the configuration does not want it."""
    config = parts.config.drift
    if not config.enabled:
        return None
    cameras = {camera.name: camera for camera in parts.config.camera}
    samples = SampleFolder(drift_folder(parts.loaded) / FOLDER, config.samples.disk)
    choices: Choices = {}
    watched, watches = [], []
    for name, pipeline in parts.pipelines.items():
        watch = Watch(keep_pixels=config.samples.images and config.samples.disk > 0)
        pipeline.watch = parts.stages[name].watch = watch
        watches.append(watch)
        camera = cameras[pipeline.config.camera]
        sampling = _sampling(parts, name, config, samples, choices)
        watched.append(Watched(_site(parts, name, pipeline, camera), pipeline.engine, watch, sampling))
    store = DriftFolder(drift_folder(parts.loaded))
    worker = DriftWorker(watched, store, parts.topics, parts.publisher.publish, services)
    for watch in watches:
        watch.hurry = worker.hurry
    return worker


def _sampling(parts: Parts, name: str, config: DriftConfig, store: SampleFolder, choices: Choices) -> Sampling | None:
    if not config.samples.disk:
        return None
    choice = SampleChoice[Waiting](Chance(secrets.randbits(64)), spacing_ns=min(SPACING_NS, int(config.block)))
    return Sampling(name, parts.boot_id, store, choices, choice)


def _site(parts: Parts, name: str, pipeline: Pipeline, camera: CameraConfig) -> Site:
    worker, counters = parts.cameras[camera.name], pipeline.counters

    def look() -> CameraLook:
        lacking = counters.discards().get(DiscardReason.MISSING_FEATURE.value, 0)
        state = state_of(worker.state, (parts.cameras[further].state for further in pipeline.config.images.values()))
        return CameraLook(state, worker.frames, counters.get("predictions"), lacking)

    fps = camera.fps if is_live(camera.source) else None
    return Site(name, parts.topics.device, parts.boot_id, parts.config.drift, fps, is_live(camera.source), look)

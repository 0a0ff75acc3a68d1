"""The main thread: commands over MQTT, statistics, the watchdog and the status line, until the process must stop."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Mapping
from typing import Any, Literal

from edge_agent import limits
from edge_agent.assembly import LoadedModel
from edge_agent.core.settings import PARSERS, Command, jsonable, parse_command
from edge_agent.core.wire import object_body, response_body, setting_body
from edge_agent.errors import ConfigError
from edge_agent.io.runtimes.failover import Change
from edge_agent.loading import load_configuration
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.parts import Parts
from edge_agent.records import Event
from edge_agent.reports import Reports

log = logging.getLogger("edge_agent")
TICK_S = 1.0
Respond = Callable[[Mapping[str, Any] | None, str | None], None]
"""Publishes the answer to one request: its data, or what was wrong. From any thread."""
Request = Callable[[Any, Respond], None]
"""Given the command's value on the main thread; it returns at once, and the answer may come later."""


class Control:
    """What the daemon does besides its two journeys. One thread runs it; the others put into its queue."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._read = parts.config  # the configuration as last read; parts.config is what the process started with
        self._ignored = {"retained": 0, "expired": 0, "too_large": 0, "too_many": 0}
        self._silent: set[str] = set()  # workers without progress, already reported
        self._beat_ns = parts.clock.monotonic_ns()
        self.last_stats: dict[str, Any] = {}  # as last published
        self.requests: dict[str, Request] = {
            "ping": lambda _, respond: respond(self._ping(), None),
            "info": lambda _, respond: respond(self.reports.info(), None),
        }
        self.reports = Reports(parts, self.requests)
        parts.follow = self.follow

    # --- from other threads --------------------------------------------------------------------------------------

    def received(self, topic: str, payload: bytes, retained: bool) -> None:
        """A command from MQTT, on the network thread. A retained one is somebody's past, not a command for now."""
        if retained:
            self._ignored["retained"] += 1
        elif self._queue.qsize() >= limits.COMMANDS_WAITING_MOST:
            self._ignored["too_many"] += 1
        elif len(topic) + len(payload) > limits.COMMAND_BYTES_MOST:  # the answer's topic is as long as the question's
            self._ignored["too_large"] += 1
        else:
            self._queue.put(lambda: self._execute(topic, payload))

    def reload(self) -> None:
        """Read the configuration again and apply what can change live (SIGHUP)."""
        self._queue.put(self._reload)

    def wake(self) -> None:
        self._queue.put(None)

    def without_progress(self) -> list[str]:
        """The workers, and the main thread, that have not shown progress for too long. From any thread."""
        silent = [worker.name for worker in self._parts.workers() if worker.silent()]
        age_s = (self._parts.clock.monotonic_ns() - self._beat_ns) / 1e9
        return [*(["main"] if age_s > limits.CONTROL_SILENCE_S else []), *silent]

    def follow(self, pipeline: str, model: LoadedModel) -> None:
        """Tell what was passed over for its back-end and of each change of that, and keep it at the best that
        answers."""
        if model.tried:
            self._parts.emit(Event("delegate_fallback", "warning", pipeline, model.engine.runtime.info.reason))
        if model.failover is not None:
            model.failover.follow(lambda change: self._delegate_changed(pipeline, change))

    def _delegate_changed(self, pipeline: str, change: Change) -> None:
        severity: Literal["info", "warning"] = "info" if change.kind == "delegate_restored" else "warning"
        self._parts.emit(Event(change.kind, severity, pipeline, change.detail))
        self._queue.put(self.publish_info)  # it looks at the board: not while a frame waits

    # --- the main thread -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the process is told to stop."""
        parts = self._parts
        period_s = min(TICK_S, parts.notifier.watchdog_period_s or TICK_S)
        stats_ns = parts.config.mqtt.stats_interval
        next_stats_ns = parts.clock.monotonic_ns() + min(stats_ns, 2 * 10**9)
        while not parts.stopping.is_set():
            try:
                action = self._queue.get(timeout=period_s)
            except queue.Empty:
                action = None
            if action is not None:
                action()
            self._beat_ns = parts.clock.monotonic_ns()
            self._feed_watchdog()
            if parts.clock.monotonic_ns() >= next_stats_ns:
                next_stats_ns = parts.clock.monotonic_ns() + stats_ns
                self.publish_stats()

    def greeting(self) -> list[Record]:
        """The retained records that follow each connection: ``info`` and every setting."""
        records = [self._info_record()]
        for name in self._parts.pipelines:
            records += [self._setting_record(name, setting) for setting in PARSERS]
        return records

    def farewell(self) -> list[Record]:
        """The last statistics of a clean stop."""
        return [self._stats_record()]

    def publish_info(self) -> None:
        """Another model runs. From any thread."""
        self._parts.publisher.publish(self._info_record())

    def publish_stats(self) -> None:
        self._parts.publisher.publish(self._stats_record())

    # --- commands ------------------------------------------------------------------------------------------------

    def _execute(self, topic: str, payload: bytes) -> None:
        levels = self._parts.topics.levels(topic)
        try:
            command = parse_command(payload)
        except ValueError as error:
            self._refuse(levels, Command(None), str(error))
            return
        now_ns = self._parts.clock.wall_ns(self._parts.clock.monotonic_ns())
        if command.expires_ns is not None and command.expires_ns < now_ns:
            self._ignored["expired"] += 1
        elif len(levels) == 3 and levels[0] == "set":
            self._set(levels[1], levels[2], command)
        elif len(levels) == 2 and levels[0] == "request":
            self._answer(levels[1], command)

    def _answer(self, name: str, command: Command) -> None:
        def respond(data: Mapping[str, Any] | None, error: str | None) -> None:
            self._respond(name, response_body(command.transaction, data, error))

        handler = self.requests.get(name)
        if handler is None:
            respond(None, f"unknown request {name!r}; known: {', '.join(self.requests)}")
        else:
            handler(command.value, respond)

    def _set(self, pipeline: str, setting: str, command: Command) -> None:
        try:
            if pipeline not in self._parts.pipelines:
                raise ValueError(f"no pipeline {pipeline!r}; known: {', '.join(self._parts.pipelines)}")
            if setting not in PARSERS:
                raise ValueError(f"no setting {setting!r}; known: {', '.join(PARSERS)}")
            value = PARSERS[setting](command.value)
            self.apply(pipeline, setting, value)
        except ValueError as error:
            self._refuse(("set", pipeline, setting), command, str(error))
            return
        done = {"pipeline": pipeline, "setting": setting, "value": jsonable(value)}
        self._respond("set", response_body(command.transaction, done, None))

    def apply(self, pipeline: str, setting: str, value: Any) -> None:
        """Change one setting of one pipeline and publish it."""
        worker, stage = self._parts.pipelines[pipeline], self._parts.stages[pipeline]
        if setting == "rate":
            worker.gate.set_period(value.period_ns)
        elif setting == "paused":
            worker.paused = value
        elif setting == "threshold":
            stage.set_threshold(value)
        elif setting == "publish":
            stage.set_publish(value)
        worker.settings[setting] = value
        self._parts.publisher.publish(self._setting_record(pipeline, setting))
        log.info("setting %s of %s: %s", setting, pipeline, jsonable(value))

    def _refuse(self, levels: tuple[str, ...], command: Command, reason: str) -> None:
        if levels[:1] == ("request",):
            self._respond(levels[-1], response_body(command.transaction, None, reason))
            return
        self._respond("set", response_body(command.transaction, None, reason))
        subject = "/".join(levels).encode("unicode_escape").decode()  # somebody else's text, on its way to a terminal
        self._parts.emit(Event("command_refused", "warning", subject, reason))

    def _respond(self, name: str, body: bytes) -> None:
        parts = self._parts
        now_ns = parts.clock.monotonic_ns()
        parts.publisher.publish(Record(Kind.RESPONSE, parts.topics.response(name), Schema.RESPONSE, body, now_ns))

    def _ping(self) -> dict[str, Any]:
        return {
            "device": self._parts.topics.device,
            "boot_id": self._parts.boot_id,
            "uptime_s": self.reports.uptime_s(),
        }

    # --- reload --------------------------------------------------------------------------------------------------

    def _reload(self) -> None:
        parts = self._parts
        parts.notifier.reloading()
        try:
            self._apply_configuration()
        except ConfigError as error:
            parts.emit(Event("reload_refused", "error", parts.loaded.path.name, f"nothing was changed: {error}"))
        parts.notifier.ready()

    def _apply_configuration(self) -> None:
        """Rate, publish, threshold and log level change live; anything else is named and waits for a restart."""
        parts = self._parts
        new = load_configuration(parts.loaded.path).config
        old, last, self._read = parts.config, self._read, new
        restart = [
            part
            for part in old.__struct_fields__
            if part not in ("pipeline", "log") and getattr(old, part) != getattr(new, part)
        ]
        started = {pipeline.name: pipeline for pipeline in old.pipeline}
        before = started | {pipeline.name: pipeline for pipeline in last.pipeline if pipeline.name in started}
        for pipeline in new.pipeline:
            start = started.pop(pipeline.name, None)
            if start is None:
                restart.append(f"pipeline.{pipeline.name}")
                continue
            for key in start.__struct_fields__:
                value = getattr(pipeline, key)
                if key in PARSERS and value != getattr(before[pipeline.name], key):
                    self.apply(pipeline.name, key, value)
                elif key not in PARSERS and value != getattr(start, key):
                    restart.append(f"pipeline.{pipeline.name}.{key}")
        restart += [f"pipeline.{name}" for name in started]
        logging.getLogger().setLevel(new.log.level.upper())
        if restart:
            detail = f"these changes need a restart: {', '.join(restart)}"
            parts.emit(Event("reload_partial", "warning", parts.loaded.path.name, detail))
        else:
            log.info("configuration reloaded")

    # --- reports -------------------------------------------------------------------------------------------------

    def _feed_watchdog(self) -> None:
        """Only while every worker makes progress; a lost camera or broker is bounded waiting, which is progress."""
        silent = self.without_progress()
        if silent:
            self._parts.notifier.status(f"no progress: {', '.join(silent)}")
            for name in set(silent) - self._silent:  # the event is on the disk before the watchdog ends the process
                detail = "no progress; the service manager's watchdog will start the process anew"
                self._parts.emit(Event("no_progress", "error", name, detail))
        self._silent = set(silent)
        if silent:
            return
        self._parts.notifier.watchdog()
        self._parts.notifier.status(self.reports.status_line())

    def _info_record(self) -> Record:
        return self._retained(self._parts.topics.info, Schema.INFO, object_body(self.reports.info()))

    def _stats_record(self) -> Record:
        self.last_stats = self.reports.stats(self._ignored)
        return self._retained(self._parts.topics.stats, Schema.STATS, object_body(self.last_stats), Kind.STATS)

    def _setting_record(self, pipeline: str, setting: str) -> Record:
        value = jsonable(self._parts.pipelines[pipeline].settings[setting])
        topic = self._parts.topics.setting(pipeline, setting)
        return self._retained(topic, Schema.SETTING, setting_body(pipeline, setting, value))

    def _retained(self, topic: str, schema: Schema, body: bytes, kind: Kind = Kind.STATE) -> Record:
        return Record(kind, topic, schema, body, self._parts.clock.monotonic_ns(), retain=True)

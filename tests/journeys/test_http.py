"""Metrics and health of a running daemon, read by Prometheus' own parser and held against what MQTT says."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.core.metrics import metrics
from edge_agent.io.board import Throttling
from tests.simulators.agent_toml import DEVICE, MODEL, belt, inspect, machine
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.simulators.working import working


class Site:
    """A daemon with ``[http]``, and who listens to it over MQTT."""

    def __init__(self, daemon: Daemon, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        found = wait_for(lambda: re.search(r"http: listening on 127\.0\.0\.1, port (\d+)", daemon.log), "the port")
        self.base = f"http://127.0.0.1:{found[1]}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.base + path, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def scrape(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Samples by name, then by the values of their labels in the order of the labels' names."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            assert family.documentation, family.name
            for sample in family.samples:
                values = tuple(value for _, value in sorted(sample.labels.items()))
                found.setdefault(sample.name, {})[values] = sample.value
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    configuration = belt(20) + machine("media") + inspect() + MODEL + "\n[http]\nport = 0\n"
    with working(tmp_path_factory.mktemp("http"), configuration) as (daemon, subscriber):
        yield Site(daemon, subscriber)


def test_metrics_are_the_figures_of_stats(site: Site) -> None:
    def same() -> tuple[dict[str, Any], dict[str, dict[tuple[str, ...], float]]] | None:
        """A scrape between two publications of stats."""
        scraped = site.scrape()
        stats = site.subscriber.last("/stats")
        frames = scraped.get("edge_agent_frames_total", {}).get(("inspect",))
        return (stats, scraped) if stats and frames == stats["pipelines"]["inspect"]["frames"] else None

    stats, scraped = wait_for(same, "a scrape of the last stats")
    line = stats["pipelines"]["inspect"]
    for count in ("predictions", "published", "acknowledged", "late_readings", "delegate_losses", "runs_repeated"):
        assert scraped[f"edge_agent_{count}_total"][("inspect",)] == line[count]
    discards = scraped.get("edge_agent_discards_total", {})
    assert discards == {("inspect", why): n for why, n in line["discards"].items()}
    p95_ms = line["latency_ms"]["invoke"]["p95"]
    assert scraped["edge_agent_latency_seconds"][("inspect", "0.95", "invoke")] == pytest.approx(p95_ms / 1000)
    assert scraped["edge_agent_camera_up"] == {("belt",): 1.0}
    assert scraped["edge_agent_outbox_messages"][("waiting",)] == stats["outbox"]["waiting"]
    assert scraped["edge_agent_memory_bytes"][()] == pytest.approx(stats["memory_mb"] * 2**20)
    assert scraped["edge_agent_heat_slowdown"][()] == stats["heat"]["slowdown"]
    assert scraped["edge_agent_overload_slowdown"] == {("inspect",): stats["overload"]["inspect"]}


def test_what_a_raspberry_pis_firmware_complains_of_is_a_metric(site: Site) -> None:
    info, stats = (wait_for(lambda end=end: site.subscriber.last(end), end) for end in ("/info", "/stats"))
    flags = Throttling(now=("under_voltage", "throttled"), since_start=("under_voltage",))
    found = {metric.name: metric.samples for metric in metrics(info, {**stats, "throttled": flags})}
    assert dict(found["edge_agent_firmware_flag"]) == {
        ("frequency_capped",): 0.0,
        ("soft_temperature_limit",): 0.0,
        ("throttled",): 1.0,
        ("under_voltage",): 1.0,
    }


def test_metrics_say_which_model_runs_where(site: Site) -> None:
    info = site.subscriber.last("/info")
    assert info is not None
    line = info["pipelines"]["inspect"]
    scraped = wait_for(lambda: site.scrape() or None, "metrics")
    model = line["model"]
    expected = (line["delegate"], model["name"], "inspect", model["sha256"], model["version"])
    assert scraped["edge_agent_model_info"] == {expected: 1.0}
    assert scraped["edge_agent_info"] == {(info["boot_id"], DEVICE, info["profile"], info["agent"]): 1.0}


def test_health_is_good_while_threads_make_progress(site: Site) -> None:
    status, body = site.get("/healthz")
    answer = json.loads(body)
    assert (status, answer["ok"], answer["no_progress"]) == (200, True, [])


def test_an_unknown_path_names_those_that_there_are(site: Site) -> None:
    assert site.get("/") == (404, "there are: /metrics /healthz\n")

"""Metrics in the text form that Prometheus scrapes, written by its own library."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.errors import ConfigError
from edge_agent.records import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def require() -> None:
    """Raises ConfigError where the library is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise ConfigError(
            "[http] needs the Python package prometheus-client: pip install prometheus-client, or take the table out"
        ) from None


def render(metrics: Iterable[Metric]) -> bytes:
    """One scrape."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Snapshot(Collector):
        def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
            for metric in metrics:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.text, labels=metric.labels)
                for values, value in metric.samples:
                    family.add_metric(values, value)
                yield family

        def describe(self) -> Iterable[CounterMetricFamily]:
            return []  # else the registry would collect once just to learn the names

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return bytes(generate_latest(registry))

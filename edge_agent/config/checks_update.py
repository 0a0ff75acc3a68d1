"""Models over the air: where they come from and when they may be tried."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_agent.config.finding import Finding, at
from edge_agent.config.schema import Config

_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_WHERE = '"https://HOST/PATH", "http://HOST/PATH", "mqtt:" or the path of a folder'


def _repository(config: Config) -> Iterator[Finding]:
    repository = config.update.repository
    if repository is None:
        return
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", repository)
    web = re.fullmatch(r"https?://[^\s/@]+(/\S*)?", repository)
    if not repository.strip() or (scheme and not web and repository != "mqtt:"):
        yield Finding(at("update.repository", repository), f"expected {_WHERE}")


def _window(config: Config) -> Iterator[Finding]:
    window = config.update.window
    if window is not None and not re.fullmatch(f"{_CLOCK}-{_CLOCK}", window):
        yield Finding(at("update.window", window), 'expected two times of the day in UTC, as "02:00-05:00"')


def _tls(config: Config) -> Iterator[Finding]:
    tls, repository = config.update.tls, config.update.repository or ""
    if tls is None:
        return
    for here, there in (("certificate", "key"), ("key", "certificate")):
        if getattr(tls, here) is not None and getattr(tls, there) is None:
            yield Finding(f"update.tls.{there}", f"missing; update.tls.{here} is set, and the two go together")
    if not repository.startswith("https://"):
        yield Finding("update.tls", "has no effect: update.repository is no https address", fatal=False)


UPDATE_CHECKS = (_repository, _window, _tls)

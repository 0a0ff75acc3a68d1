"""``[http]``: nothing listens unless it is asked for, and then on this machine alone unless it is written."""

from __future__ import annotations

import pytest

from edge_agent.config.checks_http import HTTP_CHECKS
from edge_agent.config.schema import Config, HttpConfig


def findings(http: HttpConfig | None) -> list[str]:
    return [str(finding) for check in HTTP_CHECKS for finding in check(Config(http=http))]


def test_nothing_listens_by_default() -> None:
    assert Config().http is None
    assert HttpConfig().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_needs_no_leave(host: str) -> None:
    assert findings(HttpConfig(host=host)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_any_other_host_must_be_meant(host: str) -> None:
    (found,) = findings(HttpConfig(host=host))
    assert "http.host" in found and "insecure = true" in found
    assert findings(HttpConfig(host=host, insecure=True)) == []

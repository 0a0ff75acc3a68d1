"""A repository behind HTTPS: who is trusted, in both directions, with real certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.schema import TlsConfig
from edge_agent.errors import ConfigError, TransportError
from edge_agent.io.fetch.http import HttpSource
from fleet.http_server import RepositoryServer
from tests.simulators.certificates import Authority
from tests.simulators.served_folder import CONTENT, MODEL, TIMESTAMP, served_folder

NAMES = "subjectAltName=IP:127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.issue("server", NAMES)
    authority.issue("elsewhere", "subjectAltName=DNS:elsewhere.example")
    authority.issue("expired", NAMES, valid=("20200101000000Z", "20200102000000Z"))
    authority.issue("tomorrow", NAMES, valid=("20900101000000Z", "20910101000000Z"))
    authority.issue("device")
    authority.self_signed("own", NAMES)
    return authority


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_folder(tmp_path_factory.mktemp("served") / "repo")


def context(authority: Authority, name: str) -> ssl.SSLContext:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    served.load_cert_chain(authority.folder / f"{name}.pem", authority.folder / f"{name}.key")
    return served


@pytest.fixture
def strict(authority: Authority, repository: Path) -> Iterator[str]:
    """A server that lets in nobody without a certificate."""
    served = context(authority, "server")
    served.verify_mode = ssl.CERT_REQUIRED
    with RepositoryServer(repository, tls=served) as server:
        yield server.url


def test_a_server_of_the_named_authority_is_trusted(authority: Authority, repository: Path, tmp_path: Path) -> None:
    with RepositoryServer(repository, tls=context(authority, "server")) as server:
        source = HttpSource(server.url, tls=TlsConfig(ca="ca.pem"), folder=authority.folder)
        assert source.read("metadata/timestamp.json", 100) == TIMESTAMP
        source.download(MODEL, tmp_path / "part", len(CONTENT), lambda _: None)
        assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["elsewhere", "expired", "tomorrow", "own"])
def test_a_server_with_another_certificate_is_not(authority: Authority, repository: Path, name: str) -> None:
    with RepositoryServer(repository, tls=context(authority, name)) as server:
        source = HttpSource(server.url, tls=TlsConfig(ca="ca.pem"), folder=authority.folder)
        with pytest.raises(
            TransportError, match=r"can't be verified .*check \[update.tls\] ca and this device's clock"
        ):
            source.read("metadata/timestamp.json", 100)


def test_the_system_does_not_know_our_authority(authority: Authority, repository: Path) -> None:
    served = RepositoryServer(repository, tls=context(authority, "server"))
    with served as server, pytest.raises(TransportError, match="can't be verified"):
        HttpSource(server.url).read("metadata/timestamp.json", 100)


def test_a_device_shows_its_certificate(authority: Authority, strict: str) -> None:
    tls = TlsConfig(ca="ca.pem", certificate="device.pem", key="device.key")
    source = HttpSource(strict, tls=tls, folder=authority.folder)
    assert source.read("metadata/timestamp.json", 100) == TIMESTAMP


def test_a_device_without_one_is_not_let_in(authority: Authority, strict: str) -> None:
    with pytest.raises(TransportError):
        HttpSource(strict, tls=TlsConfig(ca="ca.pem"), folder=authority.folder).read("metadata/timestamp.json", 100)


def test_a_server_that_speaks_no_tls(authority: Authority, repository: Path) -> None:
    with RepositoryServer(repository) as server:
        source = HttpSource(server.url.replace("http:", "https:"))
        with pytest.raises(TransportError):
            source.read("metadata/timestamp.json", 100)


@pytest.mark.parametrize(
    "tls", [TlsConfig(ca="nothing.pem"), TlsConfig(ca="device.key"), TlsConfig(certificate="device.pem", key="own.key")]
)
def test_certificates_that_cant_be_used(authority: Authority, tls: TlsConfig) -> None:
    with pytest.raises(ConfigError, match=r"\[update.tls\].*check ca, certificate and key"):
        HttpSource("https://host/x", tls=tls, folder=authority.folder)

"""Passwords come from files or from systemd, and never get into a message."""

from __future__ import annotations

import pytest

from edge_agent.config.schema import MqttConfig, TlsConfig
from edge_agent.errors import ConfigError
from edge_agent.io.mqtt_client import make_client
from edge_agent.io.secrets import credential_file, read_secret


@pytest.mark.parametrize(
    ("content", "secret"),
    [("geheim", "geheim"), ("geheim\n", "geheim"), ("geheim\r\n", "geheim"), (" ge heim \n\n", " ge heim \n")],
)
def test_one_newline_at_the_end_is_not_part_of_a_password(tmp_path, content, secret):
    (tmp_path / "secret").write_bytes(content.encode())
    assert read_secret(tmp_path / "secret", "mqtt") == secret


def test_without_a_path_the_credential_of_systemd_is_taken(tmp_path, monkeypatch):
    (tmp_path / "mqtt").write_text("geheim\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(None, "mqtt") == "geheim"
    assert read_secret(None, "another") is None


@pytest.mark.parametrize("default", ["", "\n", " \n"])
def test_the_unit_s_empty_default_is_no_credential(tmp_path, monkeypatch, default):
    (tmp_path / "mqtt").write_text(default)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential_file("mqtt") is None
    assert read_secret(None, "mqtt") is None


def test_a_credential_that_can_t_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "mqtt").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigError, match=f"{tmp_path}/mqtt: this credential can't be read"):
        credential_file("mqtt")


def test_key_and_certificate_for_the_broker_come_as_credentials(tmp_path, monkeypatch):
    (tmp_path / "mqtt-certificate").write_text("no certificate")
    (tmp_path / "mqtt-key").write_text("no key")
    config = MqttConfig(host="broker.example", tls=TlsConfig())
    make_client(config, tmp_path, "id")  # without systemd the files are nobody's
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ConfigError, match="the certificates can't be used"):
        make_client(config, tmp_path, "id")


def test_without_path_and_credential_there_is_no_password(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert read_secret(None, "mqtt") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "can't be read (No such file or directory)"), (b"\n", "is empty"), (b"geheim\xff", "is not UTF-8 text")],
)
def test_a_password_that_can_not_be_read_is_named_by_its_file_only(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_secret(tmp_path / "secret", "mqtt")
    assert str(refused.value).startswith(f"{tmp_path}/secret: this password file {reason}")
    assert "geheim" not in str(refused.value)
    assert refused.value.__cause__ is None or "geheim" not in repr(refused.value.__cause__)

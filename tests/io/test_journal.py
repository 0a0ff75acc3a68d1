"""What a real datagram socket in the journal's place receives, and what becomes of messages that it does not take."""

from __future__ import annotations

import array
import fcntl
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edge_agent.io.journal import JournalHandler, encode, is_journal, message_id

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "conveyor"


class Journal:
    """Both ways into a journal: its datagram socket, and the stream that standard error would be."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.datagrams.bind(str(self.path))
        self.datagrams.settimeout(10)
        self.stream, self.stderr = socket.socketpair()
        self.stream.settimeout(10)
        self.handler = JournalHandler(self.path, self.stderr.fileno())
        self.log = logging.Logger("test")
        self.log.addHandler(self.handler)

    def close(self) -> None:
        for one in (self.handler, self.datagrams, self.stream, self.stderr):
            one.close()

    def entry(self) -> dict[str, str]:
        """The next datagram, or the sealed file that came in its stead."""
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        content, ancillary, _, _ = self.datagrams.recvmsg(1 << 20, space)
        for _, kind, data in ancillary:
            assert kind == socket.SCM_RIGHTS
            assert content == b""
            with os.fdopen(array.array("i", data)[0], "rb") as file:
                seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
                assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
                content = os.pread(file.fileno(), 1 << 26, 0)
        return dict(decode(content))


def decode(content: bytes) -> Iterator[tuple[str, str]]:
    """As the protocol's description has it: NAME=value, or NAME, the length in 8 bytes, and the value."""
    while content:
        line, content = content.split(b"\n", 1)
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(content[:8], "little")
            value, content = content[8 : 8 + length], content[8 + length :]
            assert content[:1] == b"\n"
            content = content[1:]
        yield name.decode(), value.decode()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.close()


def test_a_message_has_its_priority_its_place_and_its_thread(journal):
    journal.log.warning("the camera %s is away", "front")
    entry = journal.entry()
    assert entry["MESSAGE"] == "the camera front is away"
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("4", "edge-agent")
    assert (entry["CODE_FILE"], entry["THREAD_NAME"]) == (__file__, "MainThread")
    assert entry["CODE_FUNC"] == "test_a_message_has_its_priority_its_place_and_its_thread"
    assert entry["CODE_LINE"].isdigit()
    assert "MESSAGE_ID" not in entry


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, "7"), (logging.INFO, "6"), (logging.ERROR, "3"), (logging.CRITICAL, "2"), (25, "6")],
)
def test_levels_become_priorities(journal, level, priority):
    journal.log.log(level, "x")
    assert journal.entry()["PRIORITY"] == priority


def test_an_event_can_be_found_by_its_id_its_kind_and_its_subject(journal):
    journal.log.warning("camera_lost: front: unplugged", extra={"event": "camera_lost", "subject": "front\nx"})
    entry = journal.entry()
    assert entry["MESSAGE_ID"] == "5f75a22aa7dc59d09fdd9284ac54924b"
    assert (entry["EDGE_AGENT_EVENT"], entry["EDGE_AGENT_SUBJECT"]) == ("camera_lost", "front\nx")


def test_what_has_several_lines_stays_one_message(journal):
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        journal.log.exception("it failed")
    message = journal.entry()["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert message.endswith("ValueError: first\nsecond")


def test_a_value_can_t_smuggle_in_a_field():
    assert dict(decode(encode({"MESSAGE": "x\nPRIORITY=0\n", "B": "="}))) == {"MESSAGE": "x\nPRIORITY=0\n", "B": "="}


def test_what_is_no_text_is_logged_all_the_same(journal):
    journal.log.info("name %s", "\udcff")
    assert journal.entry()["MESSAGE"] == "name \\udcff"


def test_a_message_that_no_datagram_holds_comes_as_a_sealed_file(journal):
    journal.log.info("x" * 10_000_000)
    assert journal.entry()["MESSAGE"] == "x" * 10_000_000


def test_without_the_journal_s_socket_messages_go_to_standard_error_with_their_priority(journal):
    journal.datagrams.close()
    journal.log.error("broken")
    journal.path.unlink()
    journal.log.info("away")
    assert journal.stream.recv(1000) == b"<3>broken\n<6>away\n"
    assert journal.handler.lost == 0


def test_a_journal_that_takes_nothing_costs_messages_and_no_time(journal):
    sent = 0
    while journal.handler.lost < 3:  # nobody reads: its queue fills up, then standard error's
        journal.log.info("%d %s", sent, "x" * 10_000)
        sent += 1
    first = journal.entry()
    assert first["MESSAGE"].startswith("0 ")
    journal.log.info("it reads again")
    journal.datagrams.setblocking(False)
    entries = []
    with pytest.raises(BlockingIOError):
        while True:
            entries.append(journal.entry())
    told = [entry for entry in entries if entry.get("EDGE_AGENT_EVENT") == "log_lost"]
    assert [entry["MESSAGE"] for entry in told] == ["3 log messages were lost: the journal took none"]


def test_ids_never_change():
    assert message_id("ready") == "1ad4f7e52b525c40877f11fbdce2617b"
    assert message_id("stopped") == "1f027754aebd55c0b8ccb8bca4bf3e73"


def catalog() -> dict[str, tuple[str, str]]:
    """kind -> (id, subject), as the catalog has it."""
    text = (ROOT / "systemd" / "edge-agent.catalog").read_text()
    found = re.findall(r"^# (\w+)\n-- ([0-9a-f]{32})\nSubject: (.+)\nDefined-By: edge-agent\n\n\S", text, re.MULTILINE)
    return {kind: (number, subject) for kind, number, subject in found}


def event_kinds() -> list[str]:
    """Of all events that are published."""
    schemas = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())

    def search(node: object) -> Iterator[list[str]]:
        if isinstance(node, dict):
            if "camera_lost" in node.get("enum", ()):
                yield node["enum"]
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                yield from search(item)

    return next(search(schemas))


@pytest.mark.parametrize("kind", [*event_kinds(), "ready", "stopped", "start_failed", "worker_died", "log_lost"])
def test_the_catalog_explains_every_event_under_the_id_that_it_is_logged_with(kind):
    assert kind in catalog(), f"add to systemd/edge-agent.catalog: # {kind}\n-- {message_id(kind)}"
    assert catalog()[kind][0] == message_id(kind)


def test_the_journal_is_what_systemd_says_it_is(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "file").open("wb") as file:
        here, other = os.fstat(ours.fileno()), os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino}"}
        assert is_journal(ours.fileno(), named)
        assert not is_journal(theirs.fileno(), named)
        assert not is_journal(ours.fileno(), {})
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": f"{other.st_dev}:{other.st_ino}"})
        assert not is_journal(999, named)


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``edge-agent run`` with a socket as standard error, which is taken for the journal's where JOURNAL_STREAM says
    so."""
    ours, theirs = socket.socketpair()
    state = os.fstat(theirs.fileno())
    environment = {key: value.format(state) for key, value in environment.items()}
    with ours, theirs:
        command = [sys.executable, "-m", "edge_agent", "run", *arguments]
        done = subprocess.run(command, stderr=theirs, env=os.environ | environment, timeout=60, check=False)
        theirs.close()
        said = b""
        while piece := ours.recv(4096):
            said += piece
    return subprocess.CompletedProcess(command, done.returncode, stderr=said)


@pytest.mark.skipif(
    Path("/run/systemd/journal/socket").exists(), reason="a journal runs here and would get the message"
)
def test_a_configuration_that_can_t_be_used_is_an_error_in_the_journal(tmp_path):
    (tmp_path / "agent.toml").write_text("[nonsense]\n")
    done = run(["--config", str(tmp_path / "agent.toml")], JOURNAL_STREAM="{0.st_dev}:{0.st_ino}")
    assert done.returncode == 2
    assert re.match(rb"<2>.*agent.toml.*nonsense", done.stderr)
    assert done.stderr.count(b"\n") == 1


def test_a_person_is_told_without_priorities(tmp_path):
    (tmp_path / "agent.toml").write_text("[nonsense]\n")
    done = run(["--config", str(tmp_path / "agent.toml")], JOURNAL_STREAM="1:1")
    assert done.returncode == 2
    assert done.stderr.startswith(b"edge-agent run: ")

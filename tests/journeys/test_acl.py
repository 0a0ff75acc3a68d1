"""Who may say and hear what: a real broker with the configuration and the ACL that docs/mosquitto ships."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.simulators.agent_toml import DEVICE, MODEL, belt, head, inspect, machine
from tests.simulators.certificates import Authority
from tests.simulators.daemon import Daemon
from tests.simulators.peer import Peer
from tests.simulators.shipped_broker import ShippedBroker
from tests.simulators.waiting import wait_for

OTHER = "line2"
PASSWORDS = {DEVICE: "first secret", OTHER: "second secret", "collector": "third secret", "operator": "fourth secret"}
SAYS = (
    *("availability", "info", "prediction/inspect", "state/inspect", "drift/inspect", "stats", "event"),
    *("setting/inspect/rate", "response/ping", "response/set", "update/status", "update/get"),
)
HEARS = ("set/inspect/rate", "request/ping", "feedback", "update/bell", "update/hold", "update/chunk")
DENIED = "Not authorized"
TAKEN = ("Success", "No matching subscribers")
WAYS = ("password", "certificate")
Join = Callable[..., Peer]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("acl"))
    authority.issue("broker", "subjectAltName=IP:127.0.0.1")
    for user in PASSWORDS:
        authority.issue(user)
    return authority


@pytest.fixture(scope="module")
def site(authority: Authority) -> Iterator[ShippedBroker]:
    broker = ShippedBroker(authority.folder / "broker", authority, PASSWORDS)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def join(site: ShippedBroker, authority: Authority) -> Iterator[Join]:
    """A factory: user, way and further arguments of Peer -> a connected Peer."""
    peers: list[Peer] = []

    def connect(user: str, way: str = "password", **more: object) -> Peer:
        if way == "password":
            peer = Peer(site.port, authority.folder, login=(user, PASSWORDS[user]), **more)  # type: ignore[arg-type]
        else:
            peer = Peer(site.certificate_port, authority.folder, certificate=user, **more)  # type: ignore[arg-type]
        peers.append(peer)
        return peer

    yield connect
    for peer in peers:
        peer.close()


@pytest.fixture
def observer(join: Join) -> Peer:
    """Hears everything that the broker forwards of any device."""
    peer = join("collector")
    peer.subscribe("edge-agent/#")
    return peer


@pytest.mark.parametrize("way", WAYS)
def test_a_device_says_all_that_it_has_to_say(way: str, join: Join, observer: Peer) -> None:
    device = join(DEVICE, way)
    topics = [f"edge-agent/{DEVICE}/{topic}" for topic in SAYS]
    before = len(observer.heard())
    assert {topic: device.publish(topic) for topic in topics} == dict.fromkeys(topics, "Success")
    wait_for(lambda: observer.topics()[before:] == topics, "all of them")


@pytest.mark.parametrize("way", WAYS)
def test_a_device_says_nothing_in_the_name_of_another_and_gives_no_commands(
    way: str, join: Join, observer: Peer
) -> None:
    device = join(DEVICE, way)
    forged = [f"edge-agent/{OTHER}/{topic}" for topic in (*SAYS, *HEARS)]
    forged += [f"edge-agent/{DEVICE}/{topic}" for topic in HEARS]
    forged += [
        *("edge-agent", f"edge-agent/{DEVICE}", f"edge-agent/{DEVICE}/anything", "edge-agent/_fleet/update/bell"),
        *(f"edge-agent//{OTHER}/event", f"edge-agent/{DEVICE}/../{OTHER}/event", f"/edge-agent/{OTHER}/event"),
    ]
    assert {topic: device.publish(topic, "forged") for topic in forged} == dict.fromkeys(forged, DENIED)
    assert device.publish(f"edge-agent/{DEVICE}/stats", f"the end of {way}") == "Success"
    wait_for(lambda: f"the end of {way}".encode() in [payload for _, payload in observer.heard()], "the end")
    assert b"forged" not in [payload for _, payload in observer.heard()]


@pytest.mark.parametrize("way", WAYS)
def test_a_device_hears_its_commands_and_nothing_of_another(way: str, join: Join) -> None:
    other, operator = join(OTHER), join("operator")
    own = [f"edge-agent/{DEVICE}/{topic}" for topic in HEARS]
    for retain in (True, False):
        for topic in SAYS:
            assert other.publish(f"edge-agent/{OTHER}/{topic}", retain=retain) in TAKEN
        if retain:
            curious = join(DEVICE, way)
            curious.subscribe("#", "+/#", "edge-agent/+/+/+", f"edge-agent/{OTHER}/#", f"+/{OTHER}/stats", "$SYS/#")
            curious.subscribe(f"$share/all/edge-agent/{OTHER}/#", "edge-agent/_fleet/update/bell")
    for device in (OTHER, DEVICE):
        for topic in HEARS:
            assert operator.publish(f"edge-agent/{device}/{topic}") in TAKEN
    curious.wait_topic(own[-1])  # the last of all that was said
    assert list(dict.fromkeys(curious.topics())) == own
    for topic in SAYS:
        other.publish(f"edge-agent/{OTHER}/{topic}", "", retain=True)  # nothing stays behind


def test_the_last_will_of_a_device_is_not_sent_in_the_name_of_another(join: Join, observer: Peer) -> None:
    join(DEVICE, will=f"edge-agent/{OTHER}/availability").vanish()
    join(DEVICE, will=f"edge-agent/{DEVICE}/availability").vanish()
    wait_for(lambda: (f"edge-agent/{DEVICE}/availability", b"forged") in observer.heard(), "the will that is allowed")
    assert (f"edge-agent/{OTHER}/availability", b"forged") not in observer.heard()


def test_what_waits_for_a_device_is_not_given_to_one_that_takes_its_client_id(join: Join) -> None:
    client_id = f"edge-agent-{OTHER}"
    away = join(OTHER, client_id=client_id, session_s=60)
    away.subscribe(f"edge-agent/{OTHER}/set/+/+")
    away.close()
    operator = join("operator")
    operator.publish(f"edge-agent/{OTHER}/set/inspect/rate", "a command for the other")
    thief = join(DEVICE, client_id=client_id, session_s=60)
    operator.publish(f"edge-agent/{OTHER}/set/inspect/rate", "another command for the other")
    thief.subscribe(f"edge-agent/{DEVICE}/set/+/+")
    operator.publish(f"edge-agent/{DEVICE}/set/inspect/rate", "its own")
    thief.wait_topic(f"edge-agent/{DEVICE}/set/inspect/rate")
    assert [payload for _, payload in thief.heard()] == [b"its own"]


def test_the_collector_says_nothing(join: Join, observer: Peer) -> None:
    for device in (DEVICE, OTHER, "collector", "_fleet"):
        for topic in (*SAYS, *HEARS):
            assert observer.publish(f"edge-agent/{device}/{topic}") == DENIED


def test_the_operator_commands_every_device_and_speaks_for_none(join: Join, observer: Peer) -> None:
    operator = join("operator")
    for device in (DEVICE, OTHER):
        assert [operator.publish(f"edge-agent/{device}/{topic}") for topic in HEARS] == ["Success"] * len(HEARS)
    for device in (DEVICE, OTHER, "operator"):
        assert [operator.publish(f"edge-agent/{device}/{topic}") for topic in SAYS] == [DENIED] * len(SAYS)
    wait_for(lambda: f"edge-agent/{OTHER}/{HEARS[-1]}" in observer.topics(), "the commands are heard by all who may")


def test_nobody_is_let_in_without_a_password_or_certificate(site: ShippedBroker, authority: Authority) -> None:
    assert Peer(site.port, authority.folder).connected == DENIED
    assert Peer(site.port, authority.folder, login=(DEVICE, PASSWORDS[OTHER])).connected == DENIED


@pytest.mark.parametrize("way", WAYS)
def test_a_daemon_does_all_its_work_under_these_rules(
    way: str, site: ShippedBroker, authority: Authority, join: Join, observer: Peer, daemon: Callable[..., Daemon]
) -> None:
    folder, base = authority.folder, f"edge-agent/{DEVICE}"
    (folder / "password").write_text(PASSWORDS[DEVICE])
    keys = [f'certificate = "{folder}/{DEVICE}.pem"', f'key = "{folder}/{DEVICE}.key"']
    login = [f'username = "{DEVICE}"', f'password_file = "{folder}/password"']
    with_password = way == "password"
    tls = "\n".join(["[mqtt.tls]", f'ca = "{folder}/ca.pem"', *([] if with_password else keys), ""])
    port = site.port if with_password else site.certificate_port
    text = head(port, *(login if with_password else [])) + tls + belt() + machine("media") + inspect() + MODEL
    operator = join("operator")
    operator.subscribe(f"{base}/response/+")
    process = daemon(text)
    wait_for(lambda: (f"{base}/availability", b"online") in observer.heard(), "the daemon is online")
    operator.publish(f"{base}/set/inspect/rate", json.dumps({"value": "5/s", "transaction": way}))
    operator.publish(f"{base}/request/ping", json.dumps({"transaction": way}))
    for answer in ("set", "ping"):
        operator.wait_topic(f"{base}/response/{answer}")
    for topic in ("info", "prediction/inspect", "state/inspect", "stats", "setting/inspect/rate"):
        observer.wait_topic(f"{base}/{topic}")
    said = [json.loads(payload) for _, payload in operator.heard()]
    assert [(item["status"], item["transaction"]) for item in said] == [("ok", way)] * 2
    assert process.stop() == 0, process.log
    wait_for(lambda: observer.heard()[-1] == (f"{base}/availability", b"offline"), "the daemon said goodbye")
    assert "refused" not in process.log
    counts = json.loads(next(payload for topic, payload in reversed(observer.heard()) if topic == f"{base}/stats"))
    assert "refused" not in counts["pipelines"]["inspect"]["discards"]

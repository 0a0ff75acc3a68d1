"""Each judgement of ``edge-agent doctor``, on what boards in trouble would show."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from edge_agent.commands import doctor
from edge_agent.commands import doctor_accelerators as accelerators
from edge_agent.commands import doctor_board as on_board
from edge_agent.commands import doctor_service as service
from edge_agent.commands import doctor_surroundings as surroundings
from edge_agent.commands.common import Check
from edge_agent.commands.doctor_text import Delegate
from edge_agent.config.load import LoadedConfig
from edge_agent.config.schema import Config, ModelConfig, MqttConfig
from edge_agent.io.board import Board, Throttling
from edge_agent.io.cameras.discover import FoundCamera
from edge_agent.io.host import Disk, Host
from edge_agent.io.profiles import load_profile
from edge_agent.io.runtimes import BACKENDS

PI = Board("Raspberry Pi 4 Model B Rev 1.4", "aarch64", 4, 3793, "Debian GNU/Linux 12", "3.11.2", "pi")
HOST = Host(
    python=(3, 11),
    bits=64,
    page_bytes=4096,
    swap_mb=200.0,
    governors=frozenset({"ondemand"}),
    governor_driver="cpufreq-dt",
    groups=frozenset({"video", "render", "i2c"}),
    user_groups=frozenset({"video", "render", "i2c", "edge-agent"}),
    packages={"edge-agent": "0.1.0~bookworm"},
    drop_ins=frozenset({"gpu.conf", "jetson.conf", "small-board.conf"}),
    drop_ins_on=frozenset(),
    apex=(),
    disk=Disk("/dev/mmcblk0p2", 9000.0, 30000.0),
)
PROFILE = load_profile("raspberry-pi-4")


def problems(checks) -> dict[str, str]:
    """Id -> status of what is not well; each of those must come with something to do."""
    found = [check for check in checks if check.status in ("warn", "fail")]
    assert all(check.fix for check in found)
    for check in found:
        assert_command(check.fix)
    return {check.id: check.status for check in found}


def assert_command(fix: str) -> None:
    """What begins like a command can be copied into a shell as it is."""
    if fix.startswith(("sudo ", "pip ", "echo ")):
        assert ", " not in fix.partition("  # ")[0], fix
        assert subprocess.run(["bash", "-n", "-c", fix], check=False).returncode == 0, fix


def by_id(checks, name: str) -> Check:
    (check,) = [check for check in checks if check.id == name]
    return check


def test_a_board_in_order_has_nothing_to_mend() -> None:
    checks = [*on_board.board_checks(PI, HOST, PROFILE), *service.service_checks(HOST, ())]
    checks += [*accelerators.edgetpu(PI, HOST), on_board.clock(True), on_board.temperature(50.0, PROFILE)]
    assert problems(checks) == {}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"bits": 32}, {"userland": "fail"}),
        ({"python": (3, 9)}, {"python": "fail"}),
        ({"python": (3, 15)}, {"python": "warn"}),
        ({"governors": frozenset({"powersave"})}, {"governor": "warn"}),
        ({"governors": frozenset({"powersave"}), "governor_driver": "intel_pstate"}, {}),
        ({"disk": Disk("/dev/mmcblk0p2", 100.0, 7000.0)}, {"storage": "warn"}),
        ({"disk": Disk("/dev/mmcblk0p2", 1000.0, 30000.0)}, {"storage": "warn"}),
        ({"disk": None}, {}),
    ],
)
def test_what_is_wrong_with_a_system_is_found(changes, found) -> None:
    assert problems(on_board.board_checks(PI, replace(HOST, **changes), PROFILE)) == found


def test_a_card_is_called_a_card() -> None:
    (check,) = on_board.storage(HOST.disk)
    assert check.detail.startswith("SD card or eMMC: 9000 of 30000 MB free")


def test_little_memory_without_swap_and_memory_that_the_gpu_holds_are_told() -> None:
    zero = replace(PI, model="Raspberry Pi Zero 2 W Rev 1.0", memory_mb=300)
    checks = list(on_board.memory(zero, replace(HOST, swap_mb=0.0), load_profile("raspberry-pi-zero-2")))
    assert problems(checks) == {"memory": "warn", "swap": "warn"}
    assert "gpu_mem=16" in by_id(checks, "memory").fix
    assert problems(on_board.memory(replace(zero, memory_mb=420), HOST, load_profile("raspberry-pi-zero-2"))) == {}
    assert list(on_board.memory(replace(PI, memory_mb=None), HOST, PROFILE)) == []


def test_models_that_take_more_than_the_board_s_budget_are_told() -> None:
    zero = load_profile("raspberry-pi-zero-2")
    assert problems(on_board.budget(300.0, zero)) == {"memory.budget": "warn"}
    assert problems(on_board.budget(120.0, zero)) == {}
    assert list(on_board.budget(120.0, load_profile("generic-x86"))) == []
    assert list(on_board.budget(None, zero)) == []


def test_a_guess_says_that_it_is_one() -> None:
    generic = load_profile("generic-arm64")
    assert (
        "unsure: no profile names 'Radxa ROCK 5B'" in on_board.fit(replace(PI, model="Radxa ROCK 5B"), generic).detail
    )
    assert "unsure: this board does not tell its name" in on_board.fit(replace(PI, model=""), generic).detail
    assert "unsure" not in on_board.fit(PI, PROFILE).detail
    assert on_board.fit(PI, load_profile("jetson-nano")).status == "warn"


def test_heat_and_a_weak_supply_are_told() -> None:
    assert on_board.temperature(79.0, PROFILE).status == "warn"
    assert on_board.temperature(None, PROFILE).status == "skip"
    now = Throttling(("under_voltage", "throttled"), ("under_voltage", "throttled"))
    (check,) = on_board.power(now)
    assert check.detail == "the firmware reports now: under_voltage, throttled"
    (check,) = on_board.power(Throttling((), ("under_voltage",)))
    assert check.detail == "the firmware reported since the board's start: under_voltage"
    assert [*on_board.power(Throttling((), ())), *on_board.power(None)] == []
    assert problems([on_board.clock(False)]) == {"clock": "warn"}
    assert on_board.clock(False).fix.startswith("sudo timedatectl set-ntp true")


def test_groups_that_the_service_s_user_lacks_come_with_the_command() -> None:
    (check,) = service.groups(replace(HOST, user_groups=frozenset({"i2c"})))
    assert check.status == "fail"
    assert check.fix == "sudo usermod -aG video,render edge-agent && sudo systemctl restart edge-agent"
    assert list(service.groups(replace(HOST, user_groups=None))) == []


def test_a_drop_in_is_asked_for_where_a_back_end_or_the_board_needs_it() -> None:
    assert service.needed_drop_ins({"xnnpack", "cpu"}, ()) == frozenset()
    assert service.needed_drop_ins({"gpu", "onnx-cuda"}, ("small-board",)) == {"gpu", "jetson", "small-board"}
    assert service.needed_drop_ins({"onnx-tensorrt"}, ()) == {"jetson"}
    (check,) = service.drop_ins(HOST, {"gpu"})
    assert check.status == "warn"
    assert check.fix == (
        "sudo install -m 644 -D -t /etc/systemd/system/edge-agent.service.d "
        "/usr/share/edge-agent/drop-ins/gpu.conf && sudo systemctl daemon-reload && sudo systemctl restart edge-agent"
    )
    (check,) = service.drop_ins(replace(HOST, drop_ins_on=frozenset({"gpu.conf"})), {"gpu"})
    assert check.status == "ok"
    assert list(service.drop_ins(replace(HOST, drop_ins=frozenset()), {"gpu"})) == []


def test_every_drop_in_that_is_asked_for_is_shipped() -> None:
    assert service.DROP_IN_OF.keys() <= BACKENDS.keys()
    shipped = {path.stem for path in (Path(__file__).resolve().parents[2] / "systemd/drop-ins").glob("*.conf")}
    assert {*service.DROP_IN_OF.values(), "small-board"} <= shipped


@pytest.mark.parametrize(
    ("installed", "status"), [("0.1.0~bookworm", "ok"), ("0.1.0-1", "ok"), ("0.0.9~bookworm", "warn"), (None, None)]
)
def test_a_package_beside_another_installation_is_told(installed, status) -> None:
    packages = {"edge-agent": installed} if installed else {}
    checks = list(service.package(replace(HOST, packages=packages), running="0.1.0"))
    assert [check.status for check in checks] == ([status] if status else [])


STICK = replace(PI, usb=frozenset({"1a6e:089a"}))
CARD = replace(PI, pci=frozenset({"1ac1:089a"}))
REBUILT = {"libedgetpu1-std": "16.0tf2.17.1-1.bookworm"}


@pytest.mark.parametrize(
    ("board", "changes", "found"),
    [
        (PI, {}, {}),
        (PI, {"packages": {"libedgetpu1-std": "16.0"}}, {}),  # nobody uses it
        (STICK, {"packages": REBUILT}, {}),
        (STICK, {"packages": {"libedgetpu1-std": "16.0"}}, {"libedgetpu": "fail"}),
        (STICK, {"packages": {}}, {"libedgetpu": "warn"}),
        (CARD, {"packages": REBUILT}, {"edgetpu.driver": "fail"}),
        (CARD, {"packages": REBUILT, "apex": ("/dev/apex_0",)}, {}),
        (CARD, {"packages": REBUILT, "apex": ("/dev/apex_0",), "page_bytes": 16384}, {"edgetpu.pages": "fail"}),
    ],
)
def test_what_stands_between_an_edge_tpu_and_its_use_is_found(board, changes, found) -> None:
    assert problems(accelerators.edgetpu(board, replace(HOST, **changes))) == found


def test_the_steps_towards_an_edge_tpu_come_in_the_order_in_which_they_are_taken() -> None:
    host = replace(HOST, page_bytes=16384, packages={"libedgetpu1-std": "16.0"})
    checks = [check for check in accelerators.edgetpu(CARD, host) if check.status == "fail"]
    assert [check.id for check in checks] == ["edgetpu.driver", "edgetpu.pages", "libedgetpu"]
    assert checks[1].fix == "echo kernel=kernel8.img | sudo tee -a /boot/firmware/config.txt && sudo reboot"
    assert "TensorFlow 2.5" in checks[2].detail


def test_pypi_s_pycoral_is_harmful_and_google_s_is_not(tmp_path: Path) -> None:
    (check,) = accelerators.pycoral("1.0.1", [tmp_path])
    assert (check.status, check.fix.startswith("pip uninstall pycoral")) == ("warn", True)
    assert_command(check.fix)
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "edgetpu.py").touch()
    assert list(accelerators.pycoral("2.0.0", [tmp_path])) == []
    assert list(accelerators.pycoral(None, [])) == []


def test_no_runtime_is_a_failure() -> None:
    assert accelerators.runtime({}).status == "fail"
    assert accelerators.runtime({"tflite-runtime": "2.14.0"}).detail == "tflite-runtime 2.14.0"


def camera_problem(camera: FoundCamera, libcamera: bool = False, holders=()) -> Check:
    return surroundings.camera_check(camera, libcamera, lambda _: holders)


@pytest.mark.parametrize("driver", ["unicam-image", "rp1-cfe-csi2_ch0"])
def test_a_camera_of_the_pi_s_connector_needs_libcamera(driver: str) -> None:
    camera = FoundCamera("v4l2:/dev/video0", driver)
    assert camera_problem(camera).fix == 'source = "picamera2:0", after sudo apt install python3-picamera2'
    assert camera_problem(camera, libcamera=True).fix == 'source = "picamera2:0"'


def test_a_camera_that_another_program_has_open_names_it() -> None:
    camera = FoundCamera("v4l2:/dev/video0", "USB Camera")
    asked = []
    check = surroundings.camera_check(camera, False, lambda node: asked.append(node) or ("motion", "edge-agent"))
    assert asked == ["/dev/video0"]
    assert (check.status, check.detail) == ("warn", "v4l2:/dev/video0 USB Camera: open in motion")
    assert camera_problem(camera, holders=("edge-agent",)).status == "ok"
    assert camera_problem(FoundCamera("v4l2:/dev/video1", "Cam", "can't be opened: Permission denied")).status == "warn"


def test_the_board_s_hints_on_cameras_are_told() -> None:
    checks = list(surroundings.camera_checks([], PROFILE, lambda _: ()))
    assert checks[0].status == "skip"
    assert [check.id for check in checks[1:]] == ["camera.hint"] * len(PROFILE.camera)


@pytest.mark.parametrize(
    ("host", "packages", "fix"),
    [
        ("127.0.0.1", {}, "sudo apt install mosquitto"),
        ("localhost", {"mosquitto": "2.0"}, "sudo systemctl enable --now mosquitto"),
        ("broker.example", {"mosquitto": "2.0"}, "see that the broker runs"),
    ],
)
def test_a_broker_out_of_reach_comes_with_what_to_do(host: str, packages: dict[str, str], fix: str) -> None:
    mqtt = MqttConfig(host=host)
    check = surroundings.broker(mqtt, "refused", replace(HOST, packages=packages))
    assert check.status == "warn"
    assert check.fix.startswith(fix)
    assert_command(check.fix)
    assert surroundings.broker(mqtt, None, HOST).status == "ok"


def test_sensors_are_listed() -> None:
    sensor = SimpleNamespace(source="iio:bmp280", detail="", selects=("temp", "pressure"))
    assert [check.detail for check in surroundings.sensor_checks([sensor])] == ["iio:bmp280  temp pressure"]
    assert [check.status for check in surroundings.sensor_checks([])] == ["skip"]


def configured(*orders: tuple[str, ...] | None) -> LoadedConfig:
    """One model for each order; None: it says nothing."""
    models = {f"m{number}": ModelConfig(path="x.tflite", delegates=order) for number, order in enumerate(orders)}
    return LoadedConfig(Config(model=models), Path("agent.toml"), PROFILE)


def test_the_declared_order_is_the_models_own_and_the_profile_s_where_they_say_nothing() -> None:
    assert doctor.declared_order(PROFILE, None) == PROFILE.delegates == ("xnnpack", "cpu")
    assert doctor.declared_order(PROFILE, configured(("gpu", "cpu"))) == ("gpu", "cpu")
    assert doctor.declared_order(PROFILE, configured(("gpu", "cpu"), None)) == ("gpu", "cpu", "xnnpack")


def test_a_declared_back_end_that_does_not_work_is_something_to_mend() -> None:
    tried = [
        Delegate("gpu", False, "no Vulkan adapter"),
        Delegate("xnnpack", True, ""),
        Delegate("edgetpu", False, "-"),
    ]
    checks = list(doctor._back_ends(tried, "xnnpack", ("gpu", "xnnpack")))
    assert problems(checks) == {"delegate.gpu": "warn"}
    assert by_id(checks, "delegate").detail == "xnnpack: the first in the declared order that works"
    assert problems(doctor._back_ends(tried, None, ("gpu",))) == {"delegate.gpu": "warn", "delegate": "fail"}
    assert problems(doctor._back_ends(tried[:1], None, ())) == {"delegate": "fail"}

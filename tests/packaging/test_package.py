"""What script/package makes, without a system to install it on: names, locks, control files, bytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging"))

from build_deb.archive import control, debian_version, pack  # noqa: E402
from build_deb.environment import HOME, strip  # noqa: E402
from build_deb.lock import lock_file, requirements  # noqa: E402
from build_deb.target import SUITES, Target, this_suite  # noqa: E402
from build_deb.tree import CONFIG, lay_files, manual_page  # noqa: E402

from edge_agent.__main__ import COMMANDS  # noqa: E402

NOBODY = "nobody <nobody@localhost>"
PI = Target(SUITES["bookworm"], "arm64")

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is missing: apt-get install dpkg")


@needs_dpkg
@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (("0.1.0", 1, "bookworm"), ("0.1.0", 2, "bookworm")),
        (("0.1.0", 2, "trixie"), ("0.1.1", 1, "bookworm")),
        (("0.2.0rc1", 1, "trixie"), ("0.2.0", 1, "bookworm")),
        (("0.2.0.dev3", 1, "trixie"), ("0.2.0", 1, "bookworm")),
        (("0.2.0", 1, "bookworm"), ("0.2.0", 1, "trixie")),
    ],
)
def test_an_upgrade_is_one_for_dpkg_too(earlier: tuple[str, int, str], later: tuple[str, int, str]) -> None:
    command = ["dpkg", "--compare-versions", debian_version(*earlier), "lt", debian_version(*later)]
    assert subprocess.run(command, check=False).returncode == 0


def test_wheels_are_chosen_for_the_target_and_not_for_this_machine() -> None:
    options = PI.pip_options()
    assert {"--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none", "--only-binary=:all:"} <= set(options)
    platforms = [option.partition("=")[2] for option in options if option.startswith("--platform")]
    assert platforms[0] == "manylinux_2_36_aarch64"
    assert "manylinux_2_37_aarch64" not in platforms, "Debian 12 has glibc 2.36"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(platforms)
    assert not any("x86_64" in platform for platform in platforms)


@pytest.mark.parametrize(
    ("text", "suite"),
    [
        ('NAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\n', "bookworm"),
        ('VERSION_CODENAME="jammy"\n', "jammy"),
        ("VERSION_CODENAME=bullseye\n", None),
        ("ID=arch\n", None),
    ],
)
def test_the_suite_of_this_system_is_read(tmp_path: Path, text: str, suite: str | None) -> None:
    (tmp_path / "os-release").write_text(text)
    assert this_suite(tmp_path / "os-release") == suite


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_each_lock_is_what_setup_cfg_asks_for_with_hashes_and_without_markers(suite: object) -> None:
    python = Target(suite, "amd64").python  # type: ignore[arg-type]
    text = lock_file(python).read_text()
    entries = re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    assert "".join(f"{name}=={version} \\\n{hashes}" for name, version, hashes in entries) == text.split("\n", 1)[1]
    locked = {name: version for name, version, _ in entries}
    for requirement in map(Requirement, requirements()):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            assert requirement.specifier.contains(locked[requirement.name]), f"script/package --lock: {requirement}"


def test_the_package_fits_one_python_and_asks_for_no_more_than_it_needs() -> None:
    fields = dict(re.findall(r"^([A-Z][A-Za-z-]+): (.*)$", control(PI, "0.1.0-1~bookworm", NOBODY, 7), re.MULTILINE))
    assert fields["Architecture"] == "arm64"
    assert {"python3 (>= 3.11~)", "python3 (<< 3.12)", "libc6 (>= 2.36)"} <= set(fields["Depends"].split(", "))
    assert "mosquitto" not in fields["Depends"], "the broker may be elsewhere"
    assert "mosquitto" in fields["Recommends"]


@pytest.fixture
def laid(tmp_path: Path) -> Path:
    """A package with next to no environment."""
    root = tmp_path / "root"
    site = root / HOME / "lib/python3.11/site-packages"
    metadata = site / "thing-1.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nLicense-Expression: MIT\n")
    (root / HOME / "bin").mkdir()
    (root / HOME / "bin/edge-agent").touch()
    lay_files(PI, root, site, "0.1.0-1~bookworm", "Sat, 21 Nov 2026 00:00:00 -0000", NOBODY)
    return root


def test_the_configuration_runs_the_installed_example(laid: Path) -> None:
    config = msgspec.toml.decode((laid / CONFIG).read_bytes())
    files = [config["model"]["conveyor"]["path"], config["sensor"][0]["source"].removeprefix("csv:")]
    files.append(str(Path(config["camera"][0]["source"].removeprefix("images:")).parent))
    for name in files:
        assert name.startswith("/usr/share/edge-agent/conveyor/")
        assert (laid / name.lstrip("/")).exists()


def test_the_documents_find_each_other(laid: Path) -> None:
    documents = laid / "usr/share/doc/edge-agent"
    links = [
        link
        for document in documents.glob("*.md")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not link.startswith("../")  # of the checkout
    ]
    assert links
    assert [link for link in links if not (documents / link).exists()] == []


def test_the_unit_starts_what_the_package_brings(laid: Path) -> None:
    unit = (laid / "usr/lib/systemd/system/edge-agent.service").read_text()
    assert "\nExecStart=/usr/lib/edge-agent/bin/edge-agent run --config /etc/edge-agent/agent.toml\n" in unit
    assert (laid / "usr/bin/edge-agent").resolve() == laid / HOME / "bin/edge-agent"
    assert "thing 1.0: MIT" in (laid / "usr/share/doc/edge-agent/copyright").read_text()


@needs_dpkg
def test_the_same_bytes_come_out_twice_whatever_the_files_were_like(
    laid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPKG_DEB_COMPRESSOR_LEVEL", "0")
    copy = tmp_path / "copy"
    shutil.copytree(laid, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    (copy / CONFIG).chmod(0o666)
    (copy / "usr/share/edge-agent/conveyor").chmod(0o700)
    packages = [tmp_path / "one.deb", tmp_path / "two.deb"]
    for root, deb in zip((laid, copy), packages, strict=True):
        pack(PI, root, "0.1.0-1~bookworm", NOBODY, 1_700_000_000, deb)
    assert packages[0].read_bytes() == packages[1].read_bytes()
    listed = subprocess.run(["dpkg-deb", "-c", packages[0]], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    modes = {line.split()[0] for line in listed.splitlines()}
    assert modes == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}
    assert re.search(r"^-rw-r--r-- root/root .* \./etc/edge-agent/agent\.toml$", listed, re.MULTILINE)


def test_what_a_device_does_not_need_is_left_out_and_licences_stay(tmp_path: Path) -> None:
    files = {
        "numpy/core.so": True,
        "numpy/core.pyi": False,
        "numpy/_core/tests/test_all.py": False,
        "numpy/_core/tests/_natype.py": True,
        "fleet/serve.py": False,
        "edge_agent/agent.py": True,
        "numpy-2.2.6.dist-info/RECORD": False,
        "numpy-2.2.6.dist-info/METADATA": True,
        "numpy-2.2.6.dist-info/licenses/LICENSE.txt": True,
    }
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    strip(tmp_path)
    assert {name: (tmp_path / name).exists() for name in files} == files


def test_the_manual_page_names_every_command() -> None:
    text = manual_page().replace("\\-", "-")
    assert [name for name in COMMANDS if f"\n.B {name}\n" not in text] == []
    assert "@COMMANDS@" not in text

"""What lies in the package beside the environment: the unit, the example, the configuration, the documents."""

from __future__ import annotations

import gzip
import shutil
import sys
from email.parser import HeaderParser
from pathlib import Path

from build_deb.lock import ROOT
from build_deb.target import Target

DEBIAN = ROOT / "packaging/debian"
DOC = "usr/share/doc/edge-agent"
EXAMPLE = "usr/share/edge-agent/conveyor"
CONFIG = "etc/edge-agent/agent.toml"
# Where the administrator looks: what the example's configuration names, and no more of it.
EXAMPLE_FILES = ("media/frames", "media/sensors.csv", "model/conveyor.tflite")


def lay_files(target: Target, root: Path, site: Path, version: str, date: str, maintainer: str) -> None:
    """Puts everything that is not Python below ``root``. ``date``: of the changelog, RFC 5322."""
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/edge-agent").symlink_to("../lib/edge-agent/bin/edge-agent")
    _service(target, root)
    for name in EXAMPLE_FILES:
        _copy(ROOT / "examples/conveyor" / name, root / EXAMPLE / name)
    _write(root / CONFIG, _configuration())
    _documents(root / DOC, site, version, date, maintainer)
    _copy(DEBIAN / "edge-agent.bash-completion", root / "usr/share/bash-completion/completions/edge-agent")
    _zipped(root / "usr/share/man/man1/edge-agent.1.gz", manual_page())
    _copy(DEBIAN / "lintian-overrides", root / "usr/share/lintian/overrides/edge-agent")


def _service(target: Target, root: Path) -> None:
    systemd = ROOT / "systemd"
    _copy(systemd / "edge-agent.service", root / target.suite.lib / "systemd/system/edge-agent.service")
    _copy(systemd / "edge-agent.sysusers", root / "usr/lib/sysusers.d/edge-agent.conf")
    _copy(systemd / "edge-agent.tmpfiles", root / "usr/lib/tmpfiles.d/edge-agent.conf")
    _copy(systemd / "edge-agent.catalog", root / "usr/lib/systemd/catalog/edge-agent.catalog")
    _copy(systemd / "60-edge-agent.rules", root / target.suite.lib / "udev/rules.d/60-edge-agent.rules")
    for drop_in in sorted(systemd.glob("drop-ins/*.conf")):
        _copy(drop_in, root / "usr/share/edge-agent/drop-ins" / drop_in.name)


def _configuration() -> str:
    """The example's, with the names of the installed files."""
    sys.path.insert(0, str(ROOT / "examples/conveyor"))
    try:
        from place_config import placed
    finally:
        sys.path.pop(0)
    text: str = placed((ROOT / "examples/conveyor/agent.toml").read_text(), Path("/", EXAMPLE), {})
    return text.replace(
        " File names are relative to this file. docs/configuration.md explains every key.",
        f" /{DOC}/configuration.md explains every key.",
    )


def _documents(doc: Path, site: Path, version: str, date: str, maintainer: str) -> None:
    for pattern in ("*.md", "*.yaml", "*.json", "adr/*.md"):
        for document in sorted((ROOT / "docs").glob(pattern)):
            _copy(document, doc / document.relative_to(ROOT / "docs"))
    for name in ("acl", "mosquitto.conf"):
        _copy(ROOT / "docs/mosquitto" / name, doc / "examples/mosquitto" / name)
    (doc / "mosquitto").symlink_to("examples/mosquitto")  # as the documents call it
    _write(doc / "copyright", (DEBIAN / "copyright").read_text() + "\n".join(_licences(site)) + "\n")
    _zipped(doc / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    entry = f"edge-agent ({version}) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- {maintainer}  {date}\n"
    _zipped(doc / "changelog.Debian.gz", entry)


def _licences(site: Path) -> list[str]:
    """One line for each bundled distribution, for the comment at the end of the copyright file."""
    found = []
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        header = HeaderParser().parsestr(metadata.read_text())
        licences = [header.get("License-Expression", ""), header.get("License", "")]
        licences += [text.split("::")[-1].strip() for text in header.get_all("Classifier", []) if "License ::" in text]
        # Some put the whole text there.
        name = next((text for text in licences if text and "\n" not in text), "see its folder")
        found.append(f"  {header['Name']} {header['Version']}: {name}")
    return found


def manual_page() -> str:
    """edge-agent(1), with the program's own list of commands."""
    sys.path.insert(0, str(ROOT))
    try:
        from edge_agent.__main__ import COMMANDS
    finally:
        sys.path.pop(0)
    commands = "\n".join(f".TP\n.B {name}\n{_roff(text)}" for name, text in COMMANDS.items())
    return (DEBIAN / "edge-agent.1").read_text().replace("@COMMANDS@", commands)


def _roff(text: str) -> str:
    return text.replace("\\", "\\\\").replace("-", "\\-")


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, destination) if source.is_dir() else shutil.copyfile(source, destination)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _zipped(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))

"""``script/package``: builds dist/edge-agent_VERSION_ARCH.deb for a system, or the locks anew."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

from build_deb.archive import debian_version, pack
from build_deb.environment import lay_environment
from build_deb.lock import ROOT, make_locks
from build_deb.target import MACHINES, SUITES, Target, this_arch, this_suite
from build_deb.tree import lay_files

NOBODY = "edge-agent maintainers <edge-agent@localhost>"


def main() -> int:
    options = _options()
    try:
        if options.lock:
            make_locks()
            return 0
        deb = build(_target(options), options.revision, options.output)
    except ValueError as error:
        print(f"package: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"package: {Path(error.cmd[0]).name} failed, see above", file=sys.stderr)
        return 1
    print(deb)
    return 0


def build(target: Target, revision: int, output: Path) -> Path:
    """Returns the path of the package."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "edge_agent/__init__.py").read_text())
    if not found:
        raise ValueError("edge_agent/__init__.py names no version")
    version = debian_version(found[1], revision, target.suite.name)
    epoch = _epoch()
    maintainer = _maintainer()
    output.mkdir(parents=True, exist_ok=True)
    deb = output.absolute() / f"edge-agent_{version}_{target.arch}.deb"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        site = lay_environment(target, root)
        lay_files(target, root, site, version, formatdate(epoch), maintainer)
        pack(target, root, version, maintainer, epoch, deb)
    return deb


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="script/package", description="Build the Debian package.")
    arguments.add_argument("--for", dest="suite", choices=SUITES, help="default: this system")
    arguments.add_argument("--arch", choices=MACHINES, help="default: this machine's")
    arguments.add_argument("--revision", type=int, default=1, metavar="N", help="of the same version (default 1)")
    arguments.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER", help="default: dist")
    arguments.add_argument("--lock", action="store_true", help="resolve the Python packages anew instead")
    return arguments.parse_args()


def _target(options: argparse.Namespace) -> Target:
    suite, arch = options.suite or this_suite(), options.arch or this_arch()
    if suite is None:
        raise ValueError(f"no package can be made for this system; name one: --for {'|'.join(SUITES)}")
    if arch is None:
        raise ValueError(f"no package can be made for this machine; name one: --arch {'|'.join(MACHINES)}")
    return Target(SUITES[suite], arch)


def _epoch() -> int:
    """The date of all files: $SOURCE_DATE_EPOCH, or that of the last commit."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        text = done.stdout.strip()
    if not text.isdecimal():
        raise ValueError("no git history here, and SOURCE_DATE_EPOCH is not set: it dates the files of the package")
    return int(text)


def _maintainer() -> str:
    """Debian's own variables for whoever builds packages."""
    name, address = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name} <{address}>" if name and address else NOBODY


if __name__ == "__main__":
    sys.exit(main())

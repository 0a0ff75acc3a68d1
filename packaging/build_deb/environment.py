"""The virtual environment of the package, laid by hand: wheels are only unpacked, so it can be made for another Python
and another processor than those of this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from build_deb.lock import ROOT, lock_file
from build_deb.target import Target

HOME = "usr/lib/edge-agent"
# -s: what a user installed for himself is not looked at.
COMMAND = f"""\
#!/{HOME}/bin/python -s
import sys

from edge_agent.__main__ import main

sys.exit(main())
"""
# The system's packages come after the environment's own: picamera2 and libcamera of Raspberry Pi OS, and ONNX Runtime
# with TensorRT for a Jetson, are to be had from the system only.
PYVENV = "home = /usr/bin\ninclude-system-site-packages = true\nversion = {python}\n"

# What the project's wheel needs to be built.
_FILES = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")
SOURCES = ("edge_agent", "device_profiles", "converters", "fleet", *_FILES)
# The workstation's side, and what serves none of our calls.
UNNEEDED = (
    "bin",
    "converters",
    "fleet",
    "ai_edge_litert/aot",
    "ai_edge_litert/tools",
    "ai_edge_litert/vendors",
    "cv2/data",
    "cv2/load_config_py2.py",
    "securesystemslib/_vendor/ed25519/test_data",
    "**/tests",
    "**/__pycache__",
    "**/*.pyi",
    "**/*.a",
    "**/*.sh",
    "**/.gitignore",
    "*.dist-info/RECORD",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
)
# numpy.testing imports it.
NEEDED = ("numpy/_core/tests/__init__.py", "numpy/_core/tests/_natype.py")


def lay_environment(target: Target, root: Path) -> Path:
    """Puts the environment below ``root``/usr/lib/edge-agent; returns its site-packages. Needs PyPI or pip's cache."""
    home = root / HOME
    site = home / f"lib/python{target.python}/site-packages"
    site.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "pyvenv.cfg").write_text(PYVENV.format(python=target.python))
    (home / "bin/python").symlink_to(f"../../../bin/python{target.python}")
    (home / "bin/python3").symlink_to("python")
    command = home / "bin/edge-agent"
    command.write_text(COMMAND)
    command.chmod(0o755)
    with tempfile.TemporaryDirectory() as folder:
        wheel, options = build_wheel(Path(folder)), target.pip_options()
        _pip("install", *_into(site), "--require-hashes", *options, f"--requirement={lock_file(target.python)}")
        shutil.rmtree(site / "bin", ignore_errors=True)  # pip asks for an empty one
        _pip("install", *_into(site), *options, str(wheel))
    strip(site)
    return site


def build_wheel(folder: Path) -> Path:
    """The project's own wheel, built from a copy: setuptools would leave folders in the checkout, and take along what
    an older build left there."""
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    _pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(copy))
    return next(folder.glob("*.whl"))


def _into(site: Path) -> list[str]:
    # pip's `install` holds what a package says of its Python against its own, whatever --python-version says.
    return ["--no-deps", "--no-compile", "--no-warn-conflicts", "--ignore-requires-python", f"--target={site}"]


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def strip(site: Path) -> None:
    """Takes out of the folder ``site`` what a device does not need."""
    kept = {name: (site / name).read_bytes() for name in NEEDED if (site / name).exists()}
    for pattern in UNNEEDED:
        for path in list(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name, content in kept.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    for installer in site.glob("*.dist-info/INSTALLER"):
        installer.write_text("dpkg\n")

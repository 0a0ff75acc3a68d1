"""The tables of docs/boards.md: boards and their systems from the device profiles, wheels as pip finds them on PyPI.

A cell says whether there is a wheel that setup.cfg accepts, not which version: it changes when support does, and not
with every release.
"""

from __future__ import annotations

import argparse
import configparser
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from edge_agent.config.profile import Profile, System
from edge_agent.io.profiles import load_profile, profile_names

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs" / "boards.md"
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
OLDEST_GLIBC_MINOR: Final = 17  # manylinux2014, and what it was called later
OPTIONAL: Final = ("prometheus-client>=0.20", "onnxruntime", "tflite-runtime")
LIMIT_S: Final = 120
YES, NO = "yes", "no"

# Python and C library, architecture: what decides which wheels fit.
Key = tuple[str, str, str]


def requirements(setup: Path = ROOT / "setup.cfg") -> list[str]:
    """What the daemon needs, without environment markers: pip would judge those by its own Python."""
    parser = configparser.ConfigParser()
    parser.read(setup)
    lines = parser["options"]["install_requires"].splitlines()
    return [line.partition(";")[0].strip() for line in lines if line and not line.startswith("#")]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~ ]", requirement, maxsplit=1)[0]


def key_of(system: System) -> Key:
    return system.python, system.glibc, system.arch


def platforms(key: Key) -> list[str]:
    """Every platform tag of wheels that fit, best first (PEP 600)."""
    _, glibc, arch = key
    machine = MACHINES[arch]
    minors = range(int(glibc.partition(".")[2]), OLDEST_GLIBC_MINOR - 1, -1)
    return [*(f"manylinux_2_{minor}_{machine}" for minor in minors), f"manylinux2014_{machine}", "any"]


def ask(key: Key, wanted: Sequence[str]) -> dict[str, str] | None:
    """Name -> newest version of all of them; None where pip finds no wheel for one. Raises RuntimeError where it could
    not ask."""
    python = key[0]
    abis = [
        f"cp{python.replace('.', '')}",
        "abi3",
        "none",
        *([f"cp{python.replace('.', '')}m"] if python < "3.8" else []),
    ]
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
        command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", f"--target={target}"]
        command += [*(f"--abi={abi}" for abi in abis), *(f"--platform={name}" for name in platforms(key))]
        done = subprocess.run(
            [*command, "--report=-", *wanted],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=_plain(),
        )
    if done.returncode == 0:
        items = [item["metadata"] for item in json.loads(done.stdout)["install"]]
        return {item["name"].lower().replace("_", "-"): item["version"] for item in items}
    if "No matching distribution found" not in done.stderr or "from versions" not in done.stderr:
        raise RuntimeError(f"pip could not ask: {done.stderr.strip()[-500:]}")
    return None


def _plain() -> dict[str, str]:
    """pip with PyPI alone: a configuration may name other registries (Raspberry Pi OS names piwheels)."""
    other = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX")
    return {**{name: value for name, value in os.environ.items() if name not in other}, "PIP_CONFIG_FILE": os.devnull}


def wheels_for(key: Key, wanted: Sequence[str]) -> dict[str, str]:
    """Name -> "yes", "no", or the newest version there is, where setup.cfg wants a newer one."""
    if ask(key, wanted) is not None:
        return {name_of(item): YES for item in wanted}
    cells = {}
    for item in wanted:
        if ask(key, [item]) is not None:
            cells[name_of(item)] = YES
            continue
        older = ask(key, [name_of(item)])
        cells[name_of(item)] = NO if older is None else f"{next(iter(older.values()))} at most"
    return cells


def systems(profiles: Sequence[Profile]) -> dict[Key, list[str]]:
    """Names of the systems that take the same wheels, in the order of the profiles."""
    found: dict[Key, list[str]] = {}
    for profile in profiles:
        for system in profile.systems:
            names = found.setdefault(key_of(system), [])
            if system.name not in names:
                names.append(system.name)
    return found


def board_table(profiles: Sequence[Profile]) -> list[str]:
    lines = ["| board | profile | support | system | package |", "|---|---|---|---|---|"]
    for profile in profiles:
        for number, system in enumerate(profile.systems):
            package = f"`--for {system.suite} --arch {system.arch}`" if system.suite else f"none; lost: {system.lost}"
            board = f"{profile.title} | `{profile.name}` | {profile.support}" if number == 0 else " | | "
            lines.append(f"| {board} | {system.name} | {package} |")
    return lines


def wheel_table(cells: Mapping[Key, Mapping[str, str]], names: Mapping[Key, Sequence[str]]) -> list[str]:
    columns = list(next(iter(cells.values())))
    lines = [f"| system | Python | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for key, row in cells.items():
        lines.append(f"| {'; '.join(names[key])}, {key[2]} | {key[0]} | {' | '.join(row[name] for name in columns)} |")
    return lines


def replaced(text: str, tables: Mapping[str, Sequence[str]]) -> str:
    """Each table between its two comments. Raises ValueError where a place is missing."""
    for name, lines in tables.items():
        pattern = rf"(<!-- {name}: written by script/wheels -->\n).*?(\n<!-- end -->)"
        text, count = re.subn(
            pattern, lambda found, to=lines: found[1] + "\n".join(to) + found[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"{DOCUMENT.name} has {count} places for the table {name!r}, not one")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/wheels", description="Keep the tables of docs/boards.md.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="exit 1 where the file differs")
    what.add_argument("--write", action="store_true", help="put the tables into the file")
    options = parser.parse_args()
    profiles = [load_profile(name) for name in profile_names()]
    names = systems(profiles)
    wanted = [*requirements(), *OPTIONAL]
    cells = {key: wheels_for(key, wanted) for key in sorted(names, key=_order)}
    tables = {"boards": board_table(profiles), "wheels": wheel_table(cells, names)}
    before = DOCUMENT.read_text(encoding="utf-8")
    after = replaced(before, tables)
    if options.write:
        DOCUMENT.write_text(after, encoding="utf-8")
    elif options.check:
        sys.stdout.writelines(_difference(before, after))
        return int(after != before)
    else:
        print("\n".join("\n".join([*lines, ""]) for lines in tables.values()))
    return 0


def _order(key: Key) -> tuple[int, int, str]:
    """The systems that have everything first: newest Python of each architecture."""
    return list(MACHINES).index(key[2]), -int(key[0].partition(".")[2]), key[1]


def _difference(before: str, after: str) -> Iterator[str]:
    return difflib.unified_diff(before.splitlines(True), after.splitlines(True), "in the file", "as it is today")


if __name__ == "__main__":
    sys.exit(main())

"""What ``edge-agent doctor`` says of the board against its profile. Each check is a function of what was read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_agent.commands.common import Check
from edge_agent.config.profile import Profile
from edge_agent.io.board import Board, Throttling
from edge_agent.io.host import Disk, Host

PYTHON_LEAST: Final = (3, 10)
PYTHON_MOST: Final = (3, 14)  # the newest with wheels of LiteRT: docs/boards.md
_DISK_LEAST_MB: Final = 256.0  # SQLite's log, a model twice as large as usual, and the journal
_DISK_LEAST: Final = 0.05
_SWAP_BELOW_MB: Final = 1100  # a board with less runs apt and the daemon at once only with somewhere to put pages
_BOARDS: Final = ("aarch64", "arm64")  # other profiles could be meant
_DYNAMIC_DRIVERS: Final = ("intel_pstate", "amd-pstate", "amd-pstate-epp", "intel_cpufreq")


def board_checks(board: Board, host: Host, profile: Profile) -> Iterator[Check]:
    yield model(board)
    yield fit(board, profile)
    yield userland(board, host)
    yield python(host)
    yield from memory(board, host, profile)
    yield from governor(host)
    yield from storage(host.disk)


def model(board: Board) -> Check:
    words = f"{board.model or 'unnamed board'}, {board.arch}, {board.cpus} cores, {board.memory_mb} MB, {board.os_name}"
    return Check("board", "ok", words)


def fit(board: Board, profile: Profile) -> Check:
    """How sure the match is, and what the profile has to say."""
    words = f"{profile.name} ({profile.title}): {profile.support}"
    if profile.match_arch and board.arch in _BOARDS:
        named = f"no profile names {board.model!r}" if board.model else "this board does not tell its name"
        return Check(
            "profile",
            "ok",
            f"{words}; unsure: {named}",
            'in a container the name is hidden: write [device] profile = "NAME"; the names are in docs/boards.md',
        )
    status = "warn" if profile.support == "container only" else "ok"
    return Check("profile", status, words, "; ".join(profile.notes))


def userland(board: Board, host: Host) -> Check:
    """A 64-bit kernel under 32-bit programs is what an upgraded Raspberry Pi OS is."""
    if host.bits == 64:
        return Check("userland", "ok", "64 bits")
    detail = f"32 bits on {board.arch}: there is no package, for msgspec, OpenCV and numpy have no such wheels"
    return Check("userland", "fail", detail, "write the 64-bit image of the system to the card (Raspberry Pi Imager)")


def python(host: Host) -> Check:
    version = ".".join(map(str, host.python))
    if host.python < PYTHON_LEAST:
        fix = "use Debian 12 or later, Ubuntu 22.04 or later, or a container with one of them"
        return Check("python", "fail", f"{version}: {_dotted(PYTHON_LEAST)} is the oldest with all wheels", fix)
    if host.python > PYTHON_MOST:
        fix = f"install the package, which brings its own environment, or use Python {_dotted(PYTHON_MOST)}"
        return Check("python", "warn", f"{version}: newer than {_dotted(PYTHON_MOST)}, the last that was tried", fix)
    return Check("python", "ok", version)


def memory(board: Board, host: Host, profile: Profile) -> Iterator[Check]:
    if board.memory_mb is None:
        return
    if profile.memory_mb is not None and board.memory_mb < 0.7 * profile.memory_mb:
        detail = f"{board.memory_mb} MB, where every {profile.title} has {profile.memory_mb}"
        fix = "echo gpu_mem=16 | sudo tee -a /boot/firmware/config.txt && sudo reboot  # the GPU holds the rest"
        yield Check("memory", "warn", detail, fix)
    if board.memory_mb < _SWAP_BELOW_MB and host.swap_mb == 0:
        detail = f"{board.memory_mb} MB and no swap: an upgrade beside the daemon can end it"
        yield Check("swap", "warn", detail, "sudo apt install zram-tools  # compressed swap in memory: no writes")


def budget(taken_mb: float | None, profile: Profile) -> Iterator[Check]:
    """``taken_mb``: of this process, with the daemon's libraries and all configured models in it."""
    if taken_mb is None or profile.memory_budget_mb is None:
        return
    words = f"{taken_mb:.0f} MB with all models loaded; this board's budget is {profile.memory_budget_mb}"
    if taken_mb > profile.memory_budget_mb:
        fix = "use smaller models or fewer of them: the kernel ends whoever takes the last memory"
        yield Check("memory.budget", "warn", words, fix)
    else:
        yield Check("memory.budget", "ok", words)


def governor(host: Host) -> Iterator[Check]:
    """``powersave`` holds a board at its lowest clock; drivers of x86 that scale by themselves only share the name.
    Source: kernel.org, "CPU Performance Scaling", "intel_pstate", "amd-pstate"."""
    if "powersave" in host.governors and host.governor_driver not in _DYNAMIC_DRIVERS:
        line = "w /sys/devices/system/cpu/cpufreq/policy*/scaling_governor - - - - ondemand"
        apply = "sudo systemd-tmpfiles --create governor.conf"
        fix = f"echo '{line}' | sudo tee /etc/tmpfiles.d/governor.conf && {apply}"
        yield Check("governor", "warn", "powersave: the cores stay at their lowest clock", fix)


def storage(disk: Disk | None) -> Iterator[Check]:
    if disk is None:
        return
    kind = "SD card or eMMC" if "mmcblk" in disk.device else "disk"
    words = f"{kind}: {disk.free_mb:.0f} of {disk.total_mb:.0f} MB free"
    if disk.free_mb < max(_DISK_LEAST_MB, _DISK_LEAST * disk.total_mb):
        fix = "sudo apt clean && sudo journalctl --vacuum-size=50M  # and lower [outbox] disk and [update] disk"
        yield Check("storage", "warn", f"{words}: nearly full", fix)
    else:
        yield Check("storage", "ok", words)


def temperature(celsius: float | None, profile: Profile) -> Check:
    if celsius is None:
        return Check("temperature", "skip", "this machine shows no thermal zone")
    hot = celsius >= profile.thermal.slow_above_c
    fix = "cool the board: at this temperature it runs slower" if hot else ""
    return Check("temperature", "warn" if hot else "ok", f"{celsius:.0f} degC", fix)


def power(flags: Throttling | None) -> Iterator[Check]:
    """The Raspberry Pi firmware's word on its supply and its heat."""
    if flags is None:
        return
    if flags.now:
        fix = "use the board's own power supply and a short cable; a heat sink or a fan"
        yield Check("power", "warn", f"the firmware reports now: {', '.join(flags.now)}", fix)
    elif flags.since_start:
        words = ", ".join(flags.since_start)
        fix = "use the board's own power supply, and cool it; the flags go with the next start of the board"
        yield Check("power", "warn", f"the firmware reported since the board's start: {words}", fix)


def clock(synced: bool) -> Check:
    if synced:
        return Check("clock", "ok", "synchronised")
    fix = "sudo timedatectl set-ntp true  # until then predictions carry clock_synced = false"
    return Check("clock", "warn", "not synchronised", fix)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))

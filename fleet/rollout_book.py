"""The rollouts of a channel, as the operator signs them: begun, paused, widened, stopped, turned back.

Nothing is taken out: a device that was away for a year finds all of it, and goes by the highest number that means it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Final

import msgspec
from msgspec.structs import replace
from tuf.api.exceptions import RepositoryError

from edge_agent import limits
from edge_agent.core.rollout_window import Window
from edge_agent.errors import ConfigError, UpdateError
from edge_agent.io import tuf_documents
from edge_agent.rollouts import Audience, Channel, Release, Rollout
from fleet.releases import content_of, find_release, releases, sign_again
from fleet.repository import Repository

_DEVICE: Final = re.compile(r"[a-z0-9-]{1,63}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class RolloutBook:
    """One channel of an open repository. Each call signs and writes; all raise ConfigError and StorageError."""

    def __init__(self, repository: Repository, channel: str = "main") -> None:
        if not _NAME.fullmatch(channel):
            raise ConfigError(f"--channel {channel!r}: expected a name as in [update] channel")
        self._repository = repository
        self._name = channel
        self._path = f"rollouts/{channel}.json"

    def channel(self) -> Channel:
        target = self._repository.targets("rollouts").targets.get(self._path)
        if target is None:
            return Channel(schema=tuf_documents.SCHEMA, channel=self._name)
        path = self._repository.target_path(target)
        try:
            content = path.read_bytes()
            target.verify_length_and_hashes(content)
            return tuf_documents.channel(self._name, content)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; bring the file back from a copy of the repository") from None
        except (RepositoryError, UpdateError) as error:
            raise ConfigError(f"{path}: not what was signed ({error}); bring back a good copy of it") from None

    def begin(self, release: Release, to: Audience, *, again: bool = False, **terms: object) -> Rollout:
        """``terms``: fields of Rollout. ``again``: sign the release anew first, for devices that have left it behind.

        Raises ConfigError also where the audience has a release of a higher sequence number.
        """
        content_of(self._repository, release)  # what is rolled out must be there to be fetched
        if again:
            release = sign_again(self._repository, release)
        else:
            self._require_newest(release)
        rollout = self._new(release, to, **terms)
        self._write([*self.channel().rollouts, rollout])
        return rollout

    def pause(self, which: str) -> Rollout:
        """Devices that have not begun the trial wait."""
        return self._change(which, ("active", "paused"), lambda r: replace(r, state="paused"))

    def resume(self, which: str) -> Rollout:
        return self._change(which, ("active", "paused"), lambda r: replace(r, state="active"))

    def promote(self, which: str, percent: float) -> Rollout:
        """To a larger share of its audience: those that have it stay in."""

        def wider(rollout: Rollout) -> Rollout:
            if percent <= rollout.percent and percent < 100:
                raise ConfigError(
                    f"{rollout.id} is at {rollout.percent:g} % already; a share only grows (rollback takes back)"
                )
            return replace(rollout, percent=percent, state="active")

        return self._change(which, ("active", "paused"), wider)

    def stop(self, which: str) -> Rollout:
        """For good: devices that try it go back by themselves, those that committed it keep it."""
        return self._change(which, ("active", "paused", "stopped"), lambda r: replace(r, state="stopped"))

    def roll_back(self, which: str, to_version: str | None = None) -> tuple[Rollout, Rollout]:
        """Stop it and roll out what its audience had before, or ``to_version``: the old bytes under a higher sequence
        number. Returns both. Raises ConfigError where there was nothing before (nothing is changed then)."""
        bad = self.find(which)
        release = self._before(bad) if to_version is None else self._release(f"{bad.model}@{to_version}")
        if release.sha256 == bad.sha256:
            raise ConfigError(f"{bad.id} has rolled out these very bytes: name another release with --to-version")
        release = sign_again(self._repository, release)
        stopped = replace(bad, state="stopped")
        back = self._new(
            release, bad.to, percent=bad.percent, salt=bad.salt, trial_s=bad.trial_s, max_failures=bad.max_failures
        )
        self._write([*(stopped if r.id == bad.id else r for r in self.channel().rollouts), back])
        return stopped, back

    def find(self, which: str) -> Rollout:
        """By id, or by the model's name: the newest of it. Raises ConfigError."""
        known = self.channel().rollouts
        found = [r for r in known if which in (r.id, r.model)]
        if found:
            return max(found, key=lambda r: r.number)
        ids = ", ".join(r.id for r in known[-5:]) or "none yet"
        raise ConfigError(f"no rollout {which!r} in the channel {self._name}; the newest: {ids}")

    # --- inside --------------------------------------------------------------------------------------------------

    def _change(self, which: str, allowed: Sequence[str], change: Callable[[Rollout], Rollout]) -> Rollout:
        found = self.find(which)
        if found.state not in allowed:
            raise ConfigError(f"{found.id} was stopped, which is for good: begin a new one with edge-fleet rollout")
        changed = change(found)
        if changed != found:
            self._write([changed if r.id == found.id else r for r in self.channel().rollouts])
        return changed

    def _new(self, release: Release, to: Audience, **terms: object) -> Rollout:
        number = 1 + max((r.number for r in self.channel().rollouts), default=0)
        prefix = "" if self._name == "main" else f"{self._name}-"  # a device may change its channel
        fields: dict[str, object] = {"salt": secrets.token_hex(4), **terms}
        return msgspec.convert(
            {
                "id": f"{prefix}{release.name}-{release.version}-{number}",
                "number": number,
                "model": release.name,
                "target": release.target,
                "sha256": release.sha256,
                "to": to,
                **fields,
            },
            Rollout,
        )

    def _require_newest(self, release: Release) -> None:
        known = releases(self._repository)
        for rollout in self.channel().rollouts:
            other = known.get(rollout.target)
            if other is not None and other.name == release.name and other.seq > release.seq:
                raise ConfigError(
                    f"{release.name}@{release.version} is older than {other.version}, which {rollout.id} rolled out: "
                    "devices would refuse it; take that back with edge-fleet rollback, or give --again"
                )

    def _before(self, bad: Rollout) -> Release:
        earlier = [
            r
            for r in self.channel().rollouts
            if r.model == bad.model
            and r.number < bad.number
            and r.sha256 != bad.sha256
            and r.state != "stopped"
            and _covers(r, bad)
        ]
        if not earlier:
            raise ConfigError(
                f"no rollout of {bad.model} came before {bad.id} to all of its devices: publish the old file and name "
                "it with --to-version, or end the rollout with --stop-only"
            )
        return self._release_of(max(earlier, key=lambda r: r.number))

    def _release(self, what: str) -> Release:
        return find_release(self._repository, what)

    def _release_of(self, rollout: Rollout) -> Release:
        release = releases(self._repository).get(rollout.target)
        if release is None:
            raise ConfigError(f"{rollout.target}, which {rollout.id} rolled out, is signed no more: give --to-version")
        return release

    def _write(self, rollouts: Sequence[Rollout]) -> None:
        document = Channel(schema=tuf_documents.SCHEMA, channel=self._name, rollouts=tuple(rollouts))
        content = msgspec.json.encode(document)
        if len(content) > limits.METADATA_BYTES_MOST:
            raise ConfigError(f"the channel {self._name} has too many rollouts for a device to read: use another one")
        try:
            tuf_documents.channel(self._name, content)  # as a device will
        except UpdateError as error:
            raise ConfigError(f"nothing was signed: {error}") from None
        self._repository.put_target("rollouts", self._path, content)
        self._repository.commit()


def _covers(one: Rollout, other: Rollout) -> bool:
    """Whether every device of ``other`` was meant by ``one``."""
    if one.percent < other.percent or (one.percent < 100 and one.salt != other.salt):
        return False
    named = set(other.to.devices) <= set(one.to.devices) and set(other.to.groups) <= set(one.to.groups)
    return one.to.everyone or (named and not other.to.everyone)


def audience(texts: Sequence[str]) -> Audience:
    """ "device:a,b", "group:line-3", "all"; several add up. Raises ConfigError."""
    patterns = {"device": _DEVICE, "group": _NAME}
    named: dict[str, list[str]] = {"device": [], "group": []}
    for text in texts:
        if text == "all":
            continue
        kind, _, names = text.partition(":")
        if kind not in named or not all(patterns[kind].fullmatch(name) for name in names.split(",")):
            raise ConfigError(f"--to {text}: expected device:NAME,NAME or group:NAME,NAME or all")
        named[kind] += names.split(",")
    devices, groups = (tuple(dict.fromkeys(named[kind])) for kind in ("device", "group"))
    return Audience(everyone="all" in texts, devices=devices, groups=groups)


def utc(text: str) -> str:
    """An RFC 3339 time with its zone, as signed. Raises ValueError."""
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError("no zone")
    return f"{time.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}Z"


def window(text: str) -> str:
    """Raises ValueError with a sentence."""
    Window.parse(text)
    return text

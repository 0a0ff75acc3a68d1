"""Keys over time: a role gets new ones, a stolen one is taken out, a signature is made anew before it expires."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from securesystemslib.signer import Signer

from edge_agent.errors import ConfigError
from fleet.keys import next_names
from fleet.metadata_files import DELEGATED, ROLES
from fleet.new_repository import key_folder
from fleet.repository import Repository
from fleet.settings import private_folder


class Replaced(Struct, frozen=True, kw_only=True):
    """``left_behind``: files of old keys on a medium that can't be written; ``elsewhere``: roles that an old key still
    signs for (a bench has one key for all)."""

    role: str
    new: tuple[Path, ...]
    old: tuple[str, ...]
    left_behind: tuple[Path, ...]
    elsewhere: tuple[str, ...]


def rotate(repository: Repository, role: str, *, count: int | None = None, threshold: int | None = None) -> Replaced:
    """All keys of the role are new; ``count`` and ``threshold`` None: as before. Raises ConfigError, StorageError."""
    return _replace(repository, role, repository.keyids(role), count, threshold)


def revoke(repository: Repository, role: str, key: str) -> Replaced:
    """One key, by its name or the start of its id, is replaced by a new one. Raises ConfigError, StorageError."""
    names = {keyid: repository.key_name(role, keyid) for keyid in repository.keyids(role)}
    meant = [keyid for keyid, name in names.items() if key == name or (len(key) >= 6 and keyid.startswith(key))]
    if len(meant) != 1:
        known = ", ".join(f"{name} ({keyid[:12]})" for keyid, name in names.items())
        raise ConfigError(f"{role} has no key {key!r}; its keys: {known}")
    return _replace(repository, role, meant, None, None)


def refresh(repository: Repository, roles: Sequence[str]) -> None:
    """Sign these anew, for their full time. Raises ConfigError, StorageError."""
    for role in roles:
        repository.change(role)
    repository.commit()


def roles_at_hand(repository: Repository) -> list[str]:
    """Those with enough private keys here."""
    return [
        role
        for role in ROLES
        if len(repository.ring.signers(repository.keyids(role)))
        >= repository.vouching(role).get_delegated_role(role).threshold
    ]


def _replace(
    repository: Repository, role: str, old: Sequence[str], count: int | None, threshold: int | None
) -> Replaced:
    vouching = repository.vouching(role)
    known = vouching.get_delegated_role(role)
    keys_after = len(known.keyids) - len(old) + (count or len(old))
    threshold = threshold or known.threshold
    if not 1 <= threshold <= keys_after:
        raise ConfigError(f"{role}: {threshold} of {keys_after} keys can't be: the threshold is 1 to {keys_after}")
    new = _create(repository, role, old, count or len(old))
    names = tuple(repository.key_name(role, keyid) for keyid in old)
    try:
        for keyid in old:
            vouching.revoke_key(keyid, role)
        for signer in new:
            vouching.add_key(signer.public_key, role)
        known.threshold = threshold
        if role not in (*DELEGATED, "root"):  # what targets says of its two counts together with what they sign
            repository.sign_once_more(role, old)
        repository.change(role)
        repository.change("targets" if role in DELEGATED else "root")
        repository.commit()
    except BaseException:
        repository.ring.discard(new)
        raise
    left_behind, elsewhere = _retire(repository, old)
    return Replaced(
        role=role,
        new=tuple(path for signer in new if (path := repository.ring.path(signer.public_key.keyid))),
        old=names,
        left_behind=left_behind,
        elsewhere=elsewhere,
    )


def _create(repository: Repository, role: str, old: Sequence[str], count: int) -> list[Signer]:
    """Beside the old ones where those are at hand: on the same stick."""
    places = [path.parent for keyid in old if (path := repository.ring.path(keyid))]
    places = places or [key_folder(private_folder(repository.folder), repository.settings, role)]
    taken = repository.ring.names() | {repository.key_name(role, keyid) for keyid in repository.keyids(role)}
    return [
        repository.ring.create(name, places[min(index, len(places) - 1)])
        for index, name in enumerate(next_names(role, count, taken))
    ]


def _retire(repository: Repository, old: Sequence[str]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    left: list[Path] = []
    elsewhere: dict[str, None] = {}
    for keyid in old:
        signs = [role for role in ROLES if keyid in repository.keyids(role)]
        if signs:
            elsewhere.update(dict.fromkeys(signs))
        elif path := repository.ring.retire(keyid):
            left.append(path)
    return tuple(left), tuple(elsewhere)

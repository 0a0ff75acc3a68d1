"""``edge-fleet keys``: list, rotate, revoke or refresh the keys of a repository."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from fleet.commands.common import parser
from fleet.commands.repository_options import add_repository, answer, opened
from fleet.metadata_files import ROLES
from fleet.releases import releases
from fleet.repository import Repository
from fleet.rotation import Replaced, refresh, revoke, roles_at_hand, rotate

_ALL = "all"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    with opened(options) as repository:
        actions = {"list": _list, "rotate": _rotate, "revoke": _revoke, "refresh": _refresh}
        actions[options.action](options, repository)
    return 0


def _list(options: argparse.Namespace, repository: Repository) -> None:
    rows, text = [], []
    for expiry in repository.expiries():
        keyids = repository.keyids(expiry.role)
        threshold = repository.vouching(expiry.role).get_delegated_role(expiry.role).threshold
        keys = [
            {"name": repository.key_name(expiry.role, keyid), "keyid": keyid, "here": bool(repository.ring.path(keyid))}
            for keyid in keyids
        ]
        rows.append(
            {
                "role": expiry.role,
                "version": repository.version(expiry.role),
                "expires": f"{expiry.expires:%Y-%m-%dT%H:%M:%SZ}",
                "due": expiry.due,
                "threshold": threshold,
                "keys": keys,
            }
        )
        names = ", ".join(f"{key['name']}{'' if key['here'] else ' (not here)'}" for key in keys)
        text.append(
            f"{expiry.role:<10} expires {expiry.expires:%Y-%m-%d} ({expiry.left_days:.0f} days)  "
            f"{threshold} of {len(keys)}: {names}"
        )
    answer(options, "\n".join(text), roles=rows)


def _rotate(options: argparse.Namespace, repository: Repository) -> None:
    roles = ROLES if _ALL in options.role else tuple(dict.fromkeys(options.role))
    done = [rotate(repository, role, count=options.count, threshold=options.threshold) for role in roles]
    _tell(options, repository, done)


def _revoke(options: argparse.Namespace, repository: Repository) -> None:
    _tell(options, repository, [revoke(repository, options.role, options.key)])


def _tell(options: argparse.Namespace, repository: Repository, done: Sequence[Replaced]) -> None:
    text = []
    for replaced in done:
        new = ", ".join(map(str, replaced.new))
        text.append(f"{replaced.role}: {', '.join(replaced.old)} signs no more; new: {new}")
        text += [f"  delete {path}: it is on a medium that can't be written" for path in replaced.left_behind]
        if still := [role for role in replaced.elsewhere if role not in {one.role for one in done}]:
            text.append(f"  the old key still signs for {', '.join(still)}: rotate those, too, if it was stolen")
    text.append(
        f"Devices follow by themselves at their next check. New ones get {repository.root_file()} as update-root.json"
    )
    if options.action == "revoke" and options.role == "models":
        known = ", ".join(f"{r.name}@{r.version}" for r in releases(repository).values()) or "none"
        text.append(f"Signed by the new key now, so look through them: {known}")
    answer(
        options,
        "\n".join(text),
        replaced=[{"role": r.role, "old": list(r.old), "new": [str(path) for path in r.new]} for r in done],
        root=str(repository.root_file()),
    )


def _refresh(options: argparse.Namespace, repository: Repository) -> None:
    here = roles_at_hand(repository)
    roles = [role for role in ROLES if role in options.role] if options.role else here
    refresh(repository, roles)
    away = [role for role in ROLES if role not in here and not options.role]
    text = "\n".join(
        f"{expiry.role}: signed until {expiry.expires:%Y-%m-%d}"
        for expiry in repository.expiries()
        if expiry.role in roles
    )
    if away:
        text += f"\nnot signed anew, their keys are not here: {', '.join(away)}"
    answer(options, text, refreshed=roles, away=away)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return int(text)


def _role(text: str) -> str:
    if text not in ROLES:
        raise argparse.ArgumentTypeError(f"{text}: expected {', '.join(ROLES)}")
    return text


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("keys", "Look after the keys of a repository. `edge-fleet keys ACTION --help` explains each.")
    arguments.set_defaults(command="keys")
    actions = arguments.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = partial(actions.add_parser, allow_abbrev=False)
    add_repository(add("list", help="roles, their keys, and when what they signed expires"))
    turn = add(
        "rotate",
        help="new keys for a role; devices follow by themselves",
        description="Give roles new keys. A new root is signed by enough of the old and of the new keys.",
    )
    add_repository(turn)
    turn.add_argument("role", nargs="+", choices=[*ROLES, _ALL], metavar="ROLE", help=", ".join([*ROLES, _ALL]))
    turn.add_argument("--count", type=_positive, metavar="N", help="how many keys (default: as many as before)")
    turn.add_argument("--threshold", type=_positive, metavar="N", help="how many must sign (default: as before)")
    out = add("revoke", help="take out one key that was stolen or lost; a new one takes its place")
    add_repository(out)
    out.add_argument("role", choices=ROLES, metavar="ROLE", help=", ".join(ROLES))
    out.add_argument("key", metavar="KEY", help='its name as "root-2", or the start of its id, as keys list shows them')
    anew = add("refresh", help="sign anew before it expires, without other changes")
    add_repository(anew)
    anew.add_argument("role", nargs="*", type=_role, metavar="ROLE", help="default: all whose keys are here")
    return arguments

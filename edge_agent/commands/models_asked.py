"""What the operator at the device wants: asked of the running daemon, or done here where none runs.

Here as there the rules are core/rollout.py's, and what is installed passes the same signatures and the same
examination. Nothing is tried here: the daemon does that when it starts.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from edge_agent.children.verify import requirements_of, verify_model
from edge_agent.config.load import LoadedConfig
from edge_agent.core import rollout_state
from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_mind import Now, Settings
from edge_agent.core.rollout_steps import Ask, Save
from edge_agent.errors import ConfigError, EdgeAgentError, UpdateError
from edge_agent.io.clock import SystemClock
from edge_agent.io.model_store import InUseError, ModelStore
from edge_agent.io.update_requests import Request
from edge_agent.rollouts import DeviceState, Reason
from edge_agent.updating.repository import Access, Look

ANSWER_S: Final = 30.0  # for the daemon to answer: it may be writing to a slow disk
INSTALL_S: Final = 600.0  # it may be busy with another model, and the medium slow


class Asked(Struct, frozen=True):
    """One line of what was done, or why not."""

    ok: bool
    text: str
    by: Literal["daemon", "command"]


def ask(loaded: LoadedConfig, store: ModelStore, request: Request) -> Asked:
    """Raises ConfigError, StorageError, EdgeAgentError where the daemon does not answer."""
    if not store.folder.is_dir():
        raise ConfigError(
            f"{store.folder}: no models there: start the daemon once, or name its folder: "
            "STATE_DIRECTORY=/var/lib/edge-agent in the environment, or [update] path"
        )
    _become_owner(store.folder)
    try:
        store.lock()
    except InUseError as error:
        return _by_daemon(store, request, error.pid)
    try:
        if request.what == "install":
            return _install(loaded, store, Path(request.folder))
        return _do(loaded, store, Ask(request.what, request.model))
    except UpdateError as error:
        return Asked(False, f"{Reason(error.reason).value}: {error}", "command")
    finally:
        store.close()


def _become_owner(folder: Path) -> None:
    """Root would leave files that the daemon, a user of its own, can't read."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:
        os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)


def _by_daemon(store: ModelStore, request: Request, pid: str) -> Asked:
    limit_s = INSTALL_S if request.what == "install" else ANSWER_S
    answer = store.requests.wait(store.requests.post(request), limit_s)
    if answer is None:
        raise EdgeAgentError(f"the daemon (pid {pid}) did not answer within {limit_s:g} s; see its log, and ask again")
    return Asked(answer.ok, answer.text, "daemon")


def _now() -> Now:
    clock = SystemClock()
    mono_ns = clock.monotonic_ns()
    return Now(mono_ns, clock.wall_ns(mono_ns), clock.synced())


def _do(loaded: LoadedConfig, store: ModelStore, wish: Ask) -> Asked:
    """The same rules as in the daemon; what they would do to running pipelines has nothing to be done to here."""
    now, state = _now(), store.load()
    machine = Machine(state, Settings(device=loaded.config.device.id or "", poll_s=None), now)
    objection = machine.objection(wish)
    if objection is not None:
        return Asked(False, objection, "command")
    for action in machine.handle(wish, now):
        if isinstance(action, Save):
            store.save(action.state)
            state = action.state
    return Asked(True, _done(wish, state), "command")


def _done(wish: Ask, state: DeviceState) -> str:
    runs = state.models[wish.model].current.version if wish.model in state.models else "factory"
    text = {"pin": f"is pinned to {runs}", "unpin": "follows the rollouts again", "rollback": f"goes back to {runs}"}
    return f"{wish.model} {text[wish.what]}"


# --- install ---------------------------------------------------------------------------------------------------------


def _install(loaded: LoadedConfig, store: ModelStore, folder: Path) -> Asked:
    """From a repository in a folder: check, fetch, verify, and leave it pending for the daemon. Raises UpdateError."""
    state = store.load()
    if state.trial is not None:
        name = state.trial.candidate.release.name
        return Asked(False, f"{name} is on trial: let the daemon end that first, or roll it back", "command")
    look = Look(Access(loaded, store, "", "", SystemClock()), str(folder))
    checked = look.check(state)
    if checked.candidate is None:
        return Asked(checked.refused is None, checked.detail, "command")
    release = checked.candidate.release
    store.collect(rollout_state.keep(state) | {release.sha256})
    look.fetch(release, state, lambda _: None)
    verify_model(store.stage(release.sha256, release.length), requirements_of(loaded, release))
    store.save(rollout_state.take(state, checked.candidate))
    return Asked(True, f"{release.name} {release.version} is good; the daemon tries it when it starts", "command")

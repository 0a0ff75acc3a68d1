"""A worker is a thread, and what a thread keeps in itself differs between versions of Python: 3.13 began to set
``_handle`` on each one, over the method of that name that a worker had."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import threading
from collections.abc import Iterator

import pytest

import edge_agent
from edge_agent.stages.worker import Worker

# What Thread.__init__ of Python 3.10 to 3.14 sets.
_SET = (
    "_args _context _daemonic _handle _ident _initialized _invoke_excepthook _is_stopped _kwargs _name _native_id "
    "_os_thread_handle _started _stderr _target _tstate_lock"
)
RESERVED = (frozenset(_SET.split()) | vars(threading.Thread).keys()) - {"run"}


def workers(base: type = Worker) -> Iterator[type]:
    for found in pkgutil.walk_packages(edge_agent.__path__, "edge_agent."):
        if found.name.startswith(("edge_agent.stages", "edge_agent.updating")):
            importlib.import_module(found.name)
    for worker in base.__subclasses__():
        if worker.__module__.startswith("edge_agent."):
            yield worker
            yield from workers(worker)


@pytest.mark.parametrize("worker", [Worker, *workers()], ids=lambda worker: worker.__name__)
def test_no_worker_has_a_name_that_a_thread_uses_itself(worker: type) -> None:
    own = set(re.findall(r"\bself\.(\w+)(?:: [^=\n]+)? = ", inspect.getsource(worker))) | vars(worker).keys()
    assert {name for name in own & RESERVED if not name.startswith("__")} == set()

"""Back-ends by name: what the configuration may call, and the one way to build a runtime from it.

A back-end may take its process down when it does not fit: choose.py tries each in a child first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from edge_agent.errors import ConfigError
from edge_agent.io.runtimes.external import EDGETPU, Plugin, open_runtime
from edge_agent.io.runtimes.litert import LibraryName, LiteRtRuntime
from edge_agent.io.runtimes.native_log import without_chatter

if TYPE_CHECKING:  # a child that probes a back-end has no use for msgspec
    from edge_agent.config.schema import DelegateConfig


class Backend(NamedTuple):
    """A way to run a model. ``build(model, label=, threads=, library=)`` raises DeviceError or ModelError.

    ``plain`` and ``compiled`` say which models it can take: as converted, or compiled for the Edge TPU.
    """

    build: Callable[..., LiteRtRuntime]
    plain: bool = True
    compiled: bool = False
    plugin: Plugin | None = None


def _external(plugin: Plugin, *, plain: bool) -> Backend:
    return Backend(partial(open_runtime, plugin), plain=plain, compiled=True, plugin=plugin)


BACKENDS: dict[str, Backend] = {
    "xnnpack": Backend(LiteRtRuntime),
    "cpu": Backend(partial(LiteRtRuntime, default_delegates=False)),
    "edgetpu": _external(EDGETPU, plain=False),
}


def backends(plugins: Mapping[str, Plugin]) -> dict[str, Backend]:
    """The built-in back-ends and those of ``[delegate.NAME]``, which may give ``edgetpu`` another library or
    options. Raises ConfigError for a name that is taken."""
    known = dict(BACKENDS)
    for name, plugin in plugins.items():
        built_in = BACKENDS.get(name)
        if built_in is None:
            known[name] = _external(plugin.absolute(), plain=True)
        elif built_in.plugin:
            named = built_in.plugin._replace(library=plugin.library, options=plugin.options)
            known[name] = _external(named.absolute(), plain=built_in.plain)
        else:
            raise ConfigError(f"[delegate.{name}]: this back-end is built in; give the library another name")
    return known


def plugins_of(external: Mapping[str, DelegateConfig]) -> dict[str, Plugin]:
    """The ``[delegate.NAME]`` tables of the configuration as plug-ins."""
    return {name: Plugin(config.library, config.options) for name, config in external.items()}


def backend(name: str, known: Mapping[str, Backend]) -> Backend:
    """Raises ConfigError with the names that there are, and the nearest."""
    if name in known:
        return known[name]
    from difflib import get_close_matches

    nearest = get_close_matches(name, known, n=1)
    hint = f'; did you mean "{nearest[0]}"?' if nearest else "; add [delegate.NAME] for a library of your own"
    raise ConfigError(f'there is no back-end "{name}"; allowed are {", ".join(known)}{hint}')


def create(
    model: bytes,
    delegate: str,
    *,
    threads: int,
    external: Mapping[str, DelegateConfig],
    library: LibraryName | None = None,
) -> LiteRtRuntime:
    """An interpreter on that back-end, in this process, quietly. Raises ConfigError, DeviceError, ModelError."""
    chosen = backend(delegate, backends(plugins_of(external)))
    with without_chatter():
        return chosen.build(model, label=delegate, threads=threads, library=library)

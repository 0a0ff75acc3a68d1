"""Host names into addresses within a time. ``getaddrinfo`` knows no time-out: with name servers that do not answer it
waits for a minute and more, so it runs in a thread that can be left behind."""

from __future__ import annotations

import socket
import threading
from typing import Final

Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]

_lock: Final = threading.Lock()
_under_way: Final[dict[tuple[str, int], _Lookup]] = {}


def addresses_of(host: str, port: int, timeout_s: float) -> list[Address]:
    """The TCP addresses of ``host``, in the order in which to try them.

    Raises TimeoutError, socket.gaierror for a name that nobody knows, OSError for one that is none.
    """
    try:
        return _ask(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name, not an address
    except UnicodeError as error:
        raise OSError("the name of the host is none") from error
    with _lock:  # a lookup that was left behind is joined by the next attempt: one thread for each name, not more
        lookup = _under_way.get((host, port))
        if lookup is None:
            lookup = _under_way[host, port] = _Lookup(host, port)
            lookup.start()
    lookup.join(timeout_s)
    if isinstance(lookup.found, OSError):
        raise lookup.found
    if lookup.found is None:
        raise TimeoutError("the name servers did not answer")
    return lookup.found


class _Lookup(threading.Thread):
    """``found`` is None until it has an answer."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name=f"lookup {host}", daemon=True)
        self.found: list[Address] | OSError | None = None
        self._host = host
        self._port = port

    def run(self) -> None:
        try:
            self.found = _ask(self._host, self._port)
        except OSError as error:
            self.found = error
        except UnicodeError:
            self.found = OSError("the name of the host is none")
        finally:
            with _lock:
                del _under_way[self._host, self._port]


def _ask(host: str, port: int, flags: int = 0) -> list[Address]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)  # type: ignore[return-value]

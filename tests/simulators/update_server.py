"""A repository of models behind a real web server that can be told to lie, to linger and to break off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.simulators.web_server import Request, WebServer

Answer = Callable[[Request], None]


class UpdateServer(WebServer):
    """Serves the files of ``folder``, with resumption. ``folder`` may be set anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lies: dict[str, Answer] = {}
        super().__init__(self._serve_file)

    @contextlib.contextmanager
    def lying(self, about: str, answer: Answer) -> Iterator[None]:
        """Meanwhile requests with that in their path get this answer."""
        self._lies[about] = answer
        try:
            yield
        finally:
            del self._lies[about]

    def asked(self, about: str) -> list[Request]:
        """All requests so far with that in their path."""
        return [request for request in list(self.requests) if about in request.target]

    def _serve_file(self, request: Request) -> None:
        for about, answer in list(self._lies.items()):
            if about in request.target:
                answer(request)
                return
        file = self.folder / request.target.lstrip("/")
        if not file.is_file():
            request.answer("404 Not Found")
            return
        content, first = file.read_bytes(), request.first_byte()
        if first:
            place = f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}"
            request.answer("206 Partial Content", content[first:], place)
        else:
            request.answer("200 OK", content)

"""A function of the user's, FILE.py:FUNCTION or module:function, run in this process: what goes wrong in it is told
with its own file and line, and what it prints does not get into our output."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_agent.core.card_rules import nearest
from edge_agent.errors import ConfigError

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST = 500  # characters of an error in the user's code
_numbers = itertools.count()


def is_function(spec: str) -> bool:
    """Whether ``spec`` has the form FILE.py:FUNCTION or module:function."""
    place, colon, name = spec.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or bool(_MODULE.fullmatch(place)))


class UserFunction:
    """``what`` says in messages what the function is for. ``folder``: relative paths that it gives start there; it is
    also on the import path while the code runs, so that its neighbours can be imported.

    Raises ConfigError when the file is not there, does not run, or has no such function.
    """

    def __init__(self, spec: str, what: str) -> None:
        if not is_function(spec):
            raise ConfigError(f"{spec}: {what} is written FILE.py:FUNCTION or module:function")
        self.spec = spec
        place, _, name = spec.rpartition(":")
        self.folder = Path(place).resolve().parent if place.endswith(".py") else Path.cwd()
        with self._guard():
            module = _from_file(Path(place), what) if place.endswith(".py") else importlib.import_module(place)
        function = getattr(module, name, None)
        if not callable(function):
            functions = [known for known, value in vars(module).items() if inspect.isfunction(value)]
            raise ConfigError(
                f"{spec}: {place} has no function {name!r}{nearest(name, functions)}; "
                f"it has {', '.join(functions) or 'none'}"
            )
        self._function: Callable[..., Any] = function
        source = getattr(module, "__file__", None)
        self.sha256 = hashlib.sha256(Path(source).read_bytes() if source else spec.encode()).hexdigest()

    def takes(self, parameter: str) -> bool:
        """Whether the function has a parameter of that name."""
        try:
            return parameter in inspect.signature(self._function).parameters
        except (TypeError, ValueError):  # a builtin or an extension's
            return False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with self._guard():
            return self._function(*arguments, **named)

    def iterate(self, **named: Any) -> Iterator[Any]:
        """What the function yields or the list that it returns, one by one. Raises ConfigError, also for an error in
        the middle of it."""
        values = self(**named)
        if not hasattr(values, "__iter__"):
            raise ConfigError(f"{self.spec} returned {type(values).__name__}; it must yield or return rows (mappings)")
        iterator = iter(values)
        while True:
            with self._guard():
                try:
                    value = next(iterator)
                except StopIteration:
                    return
            yield value

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        sys.path.insert(0, str(self.folder))
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{self.spec}: {_told(error, self.folder)}") from error
        finally:
            with contextlib.suppress(ValueError):  # the code took it away itself
                sys.path.remove(str(self.folder))


def _from_file(path: Path, what: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; {what} is written FILE.py:FUNCTION")
    # a name of its own: two files may be called alike, and one of them like an installed package
    name = f"_edge_convert_{next(_numbers)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    spec.loader.exec_module(module)
    return module


def _told(error: BaseException, folder: Path) -> str:
    """Where in the user's code, and what."""
    message = " ".join(str(error).split())[:_LONGEST]
    what = f"{type(error).__name__}{': ' + message if message else ''}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {what}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if _is_own(Path(frame.filename), folder)]
    if not frames:  # it could not even be called
        return what
    last = (own or frames)[-1]
    return f"{last.filename}, line {last.lineno}: {what}"


def _is_own(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and "site-packages" not in path.parts

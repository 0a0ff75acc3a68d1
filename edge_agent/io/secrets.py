"""Passwords and keys from files or from systemd's credentials. What is read here never gets into a message."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.errors import ConfigError


def credential_file(name: str) -> Path | None:
    """Where systemd put the credential of that name. None: there is none, or only the unit's default, an empty line."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / name
    try:
        return path if path.read_bytes().strip() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: this credential can't be read ({error.strerror})") from error


def read_secret(path: Path | None, credential: str) -> str | None:
    """The text of ``path``, or of systemd's credential of that name where no path is given; one newline at the end
    is not part of it. None when there is neither.

    Raises ConfigError when the file can't be read, is empty or is no text.
    """
    path = path or credential_file(credential)
    if path is None:
        return None
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        # "from None": the codec's error quotes the bytes
        raise ConfigError(f"{path}: this password file is not UTF-8 text; write it anew") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: this password file can't be read ({error.strerror}); check the path and who may read it"
        ) from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ConfigError(f"{path}: this password file is empty; write the password into it")
    return text

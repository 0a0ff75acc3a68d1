"""One model file, read whole and once: its hash, its form, its card, its standard metadata, the files that ride in it.

Of a .tflite they are a zip behind the flatbuffer, of an .onnx entries of its metadata (onnx_file.py). A file that is no
model is a ModelError that says what it is instead. Damage beside the graph is survived with a note; bounds keep a
hostile zip from taking the memory.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import limits
from edge_agent.errors import ModelError
from edge_agent.io.onnx_file import looks_like_onnx, read_onnx
from edge_agent.records import Form, ModelFile, StandardMetadata

CARD_MEMBER = "edge-agent/card.json"
IDENTIFIER = b"TFL3"
EDGETPU_OP = b"edgetpu-custom-op"
MEMBERS_MOST = 64
MEMBER_BYTES_MOST = 64 * 2**20  # of all members together, unpacked
_ZIP_TAIL = 65_557  # a zip's end record is found within its own 22 bytes and the longest comment
_CENTRAL_ENTRY = b"PK\x01\x02"
SEAL_MARK = b"edge-agent/sha256:"  # the zip's comment: this and a digest of everything before
# Of the methods that zipfile knows only these have bounded memory: an LZMA header may ask for 4 GiB at once.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# zipfile has no single exception for damage: this is what mutated archives raise.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
    OSError,
    LookupError,
    OverflowError,
)


def read_model(path: Path) -> ModelFile:
    """All of the file at ``path``. Raises ModelError when it can't be read or is no model."""
    return parse_model(_content(path), path)


def parse_model(content: bytes, path: Path) -> ModelFile:
    """A model that is already in memory; ``path`` names it in messages. Raises ModelError."""
    form = _form(path, content)
    notes: list[str] = []
    if form == "onnx":
        members, metadata = _onnx(path, content, notes)
    else:
        members, metadata = _members(content, notes), None
    card = _card(path, members)
    complete = card is not None and bool(card.get("inputs")) and bool(card.get("outputs"))
    if form != "onnx" and not complete:
        metadata = _metadata(content, notes)
    return ModelFile(
        path=str(path),
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        card=card,
        metadata=metadata,
        members=members,
        form=form,
        notes=tuple(notes),
    )


def seal(whole: bytes) -> bytes:
    """The comment that ends a model's zip, for a file that is ``whole`` before it."""
    return SEAL_MARK + hashlib.sha256(whole + SEAL_MARK).hexdigest().encode()


def _broken_seal(content: bytes, comment: bytes) -> str | None:
    """What is wrong with it; a zip of other tools has no comment."""
    if not comment or comment == seal(content[: len(content) - len(comment)]):
        return None
    return "the file is not as its converter wrote it: the digest at its end does not match"


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path} is a folder, expected a model file: name the file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} is not a regular file, expected a model file")
        if status.st_size > limits.MODEL_BYTES_MOST:
            most = limits.MODEL_BYTES_MOST // 2**20
            raise ModelError(f"{path} has {status.st_size // 2**20} MiB, at most {most} MiB are allowed for a model")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist: put the model there or correct the path") from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def _form(path: Path, content: bytes) -> Form:
    """Raises ModelError for what is no model."""
    if not content:
        raise ModelError(f"{path} is empty: copy the model again")
    if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise ModelError(f"{path} is a web page, not a model: the download answered with HTML; fetch the file itself")
    if content.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a Git LFS pointer, not a model: run git lfs pull")
    if content[4:8] == IDENTIFIER:
        if not _root_inside(content):
            raise ModelError(
                f"{path} is truncated or damaged: its {len(content)} bytes end before the model's root table"
            )
        return "edgetpu" if EDGETPU_OP in content else "tflite"
    if looks_like_onnx(content):
        return "onnx"
    raise ModelError(
        f"{path} is not a TFLite model: bytes 4 to 7 are {content[4:8]!r}, expected {IDENTIFIER!r}; "
        "nor does it begin as an ONNX model does"
    )


def _onnx(path: Path, content: bytes, notes: list[str]) -> tuple[dict[str, bytes], StandardMetadata | None]:
    try:
        found = read_onnx(content, members_most=MEMBERS_MOST, bytes_most=MEMBER_BYTES_MOST)
    except ValueError as error:
        raise ModelError(
            f"{path} is neither a TFLite model nor an ONNX model, or a damaged one: {_one_line(error)}"
        ) from None
    notes += found.notes
    return found.members, StandardMetadata("", found.version, (), ()) if found.version else None


def _root_inside(content: bytes) -> bool:
    """Whether the root table and the table of its fields lie in the file; all else is the interpreter's to verify."""
    try:
        (root,) = struct.unpack_from("<I", content, 0)
        (back,) = struct.unpack_from("<i", content, root)
        fields = root - back
        if not 8 <= fields <= len(content) - 4:
            return False
        size, table = struct.unpack_from("<HH", content, fields)
    except struct.error:
        return False
    return bool(size >= 4 and fields + size <= len(content) and root + table <= len(content))


def _members(content: bytes, notes: list[str]) -> dict[str, bytes]:
    stream = io.BytesIO(content)
    try:
        if not zipfile.is_zipfile(stream):
            if _CENTRAL_ENTRY in content[-_ZIP_TAIL:]:
                notes.append("the zip after the model has no end (a truncated file?): its card and labels are not read")
            return {}
        with zipfile.ZipFile(stream) as archive:
            if (broken := _broken_seal(content, archive.comment)) is not None:
                notes.append(broken)
            return _unpacked(archive, notes)
    except ZIP_DAMAGE as error:
        notes.append(f"the zip after the model is damaged ({_one_line(error)}): its card and labels are not read")
        return {}


def _unpacked(archive: zipfile.ZipFile, notes: list[str]) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MEMBERS_MOST or total > MEMBER_BYTES_MOST:
        notes.append(
            f"the zip after the model has {len(entries)} files of {total} bytes unpacked, at most {MEMBERS_MOST} files "
            f"and {MEMBER_BYTES_MOST} bytes are read: none of them is"
        )
        return {}
    members = {}
    for entry in entries:
        if entry.compress_type not in _METHODS:
            notes.append(f"{entry.filename!r} in the zip is neither stored nor deflated: not read")
            continue
        try:
            members[entry.filename] = archive.read(entry)
        except ZIP_DAMAGE as error:
            notes.append(f"{entry.filename!r} in the zip is damaged ({_one_line(error)}): not read")
    return members


def _card(path: Path, members: dict[str, bytes]) -> dict[str, Any] | None:
    raw = members.get(CARD_MEMBER)
    if raw is None:
        return None
    try:
        card = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {CARD_MEMBER} is not JSON: {_one_line(error)}") from None
    if not isinstance(card, dict):
        raise ModelError(f"{path}: {CARD_MEMBER} is a JSON {type(card).__name__}, expected an object")
    return card


def _metadata(content: bytes, notes: list[str]) -> StandardMetadata | None:
    # only models without a full card pay for this import
    from edge_agent.io.tflite_metadata import standard_metadata

    try:
        return standard_metadata(content)
    except ValueError as error:
        notes.append(f"{_one_line(error)}: not used")
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

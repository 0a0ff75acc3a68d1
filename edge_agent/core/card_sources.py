"""The three sources of a card side by side, and what each says: the file's own card, standard TFLite metadata, the
configuration. Whatever is taken from one keeps its source, so that a message can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from edge_agent.core.card_schema import CARD_MEMBER, Card, InputCard, OutputCard
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError
from edge_agent.records import ModelFile, StandardMetadata, TensorMetadata, TensorSpec

Specs = Mapping[str, TensorSpec]
Facts = Mapping[str, TensorMetadata]


class Source(Struct, frozen=True):
    """Who said something: ``where`` begins every message, ``error`` names the family of who must act."""

    where: str
    error: type[EdgeAgentError]

    def refuse(self, text: str) -> EdgeAgentError:
        return self.error(f"{self.where}: {text}")


Roles = dict[str, tuple[Source, InputCard]]  # by input tensor
Heads = list[tuple[Source, OutputCard]]


@dataclass(frozen=True)
class Sources:
    """``own`` is the file's card, ``said`` the configuration's; ``*_facts`` is standard metadata by tensor name."""

    file: ModelFile
    inputs: Specs
    outputs: Specs
    own: Card
    said: Card
    config: Source
    read_text: Callable[[str], str]
    input_facts: Facts
    output_facts: Facts
    notes: list[str] = field(default_factory=list)

    @property
    def card(self) -> Source:
        return Source(f"{self.file.path}: {CARD_MEMBER}", ModelError)

    @property
    def metadata(self) -> Source:
        return Source(f"{self.file.path}: TFLite metadata", ModelError)

    def lines_of(self, source: Source, labels: tuple[str, ...] | str) -> tuple[str, ...]:
        """The labels themselves. A file that the configuration names lies beside it, or else inside the model."""
        if not isinstance(labels, str):
            return labels
        if source is not self.config:
            return lines(self._member(source, labels))
        try:
            return lines(self.read_text(labels))
        except (OSError, ValueError, ConfigError) as error:
            if labels in self.file.members:
                self.notes.append(f'labels "{labels}" are those inside the model: {error}')
                return lines(self._member(source, labels))
            if isinstance(error, ConfigError):
                raise
            raise source.refuse(f'labels "{labels}" can\'t be read: {error}') from None

    def _member(self, source: Source, name: str) -> str:
        if name not in self.file.members:
            inside = ", ".join(f'"{member}"' for member in self.file.members) or "no files"
            unread = "".join(f" ({note})" for note in self.file.notes)
            raise source.refuse(f'labels "{name}" are not in the model, which has {inside}{unread}')
        try:
            return self.file.members[name].decode("utf-8")
        except UnicodeDecodeError:
            raise source.refuse(f'labels "{name}" are not UTF-8 text') from None


def sources(
    file: ModelFile,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    own: Card,
    said: Card,
    where: str,
    read_text: Callable[[str], str],
) -> Sources:
    metadata = file.metadata or StandardMetadata("", "", (), ())
    notes = list(file.notes)
    return Sources(
        file=file,
        inputs={spec.name: spec for spec in inputs},
        outputs={spec.name: spec for spec in outputs},
        own=own,
        said=said,
        config=Source(where, ConfigError),
        read_text=read_text,
        input_facts=_by_tensor(inputs, metadata.inputs, "inputs", notes),
        output_facts=_by_tensor(outputs, metadata.outputs, "outputs", notes),
        notes=notes,
    )


def _by_tensor(specs: Sequence[TensorSpec], facts: Sequence[TensorMetadata], kind: str, notes: list[str]) -> Facts:
    if {spec.name for spec in specs} == {fact.name for fact in facts}:
        return {fact.name: fact for fact in facts}
    if len(specs) == len(facts):
        # the metadata's own names are display names: its lists follow the order of the graph's
        return {spec.name: fact for spec, fact in zip(specs, facts, strict=True)}
    if facts:
        notes.append(f"TFLite metadata describes {len(facts)} {kind}, the model has {len(specs)}: not used for {kind}")
    return {}


def lines(text: str) -> tuple[str, ...]:
    """One label a line; blank lines hold their place. Only line feeds end a line: str.splitlines knows ten more."""
    found = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    return tuple(found[:-1] if found[-1] == "" else found)

"""Configuration documents: YAML files read, merged in name order, and decoded strictly.

Owns finding and decoding; must not know any kind. Every refusal names the file, the field and the reason.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

MAX_BYTES = 1 << 20
MAX_ALIASES = 64


class ConfigError(Exception):
    """A configuration cannot be used; the text names file, field and reason."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of configuration structs: camelCase in YAML, unknown fields refused.

    Acronyms need their name said: `service_cidr: str = msgspec.field(name="serviceCIDR")`.
    """


class Document(dict[str, Any]):
    """One YAML document that remembers where it came from."""

    source: str

    def __init__(self, content: Mapping[str, Any], *, source: str) -> None:
        super().__init__(content)
        self.source = source


def load(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Documents of a file, or of a folder's `*.yaml` in name order, by kind. ConfigError names what is wrong."""
    files = [path]
    if path.is_dir():
        files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")], key=lambda file: file.name)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        for document in _documents(file):
            kinds.setdefault(document["kind"], []).append(document)
    return kinds


def decode(doc: Mapping[str, Any], type: type[T], *, source: str = "") -> T:
    """The document as a value of `type`; an unknown field or a wrong type is refused by name."""
    where = source or getattr(doc, "source", "configuration")
    known = {field.encode_name for field in msgspec.structs.fields(type)} if _is_struct(type) else set()  # type: ignore[arg-type]
    body = {name: value for name, value in doc.items() if name in known or name not in ("apiVersion", "kind")}
    try:
        return msgspec.convert(body, type, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {doc.get('kind', type.__name__)}: {_in_words(error)}") from error


def merged(documents: Sequence[Mapping[str, Any]]) -> Document:
    """Documents of one kind as one: later ones win field by field, mappings merge, lists are replaced."""
    result: dict[str, Any] = {}
    for document in documents:
        _merge(result, document)
    return Document(result, source=", ".join(dict.fromkeys(getattr(each, "source", "?") for each in documents)))


def one(kinds: Mapping[str, Sequence[Mapping[str, Any]]], kind: str, type: type[T]) -> T:
    """All documents of `kind` merged and decoded; without any, the defaults of `type`."""
    return decode(merged(kinds[kind]) if kinds.get(kind) else Document({"kind": kind}, source="defaults"), type)


def _is_struct(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, msgspec.Struct)


def _documents(file: Path) -> list[Document]:
    import yaml  # only a process that is configured pays for it

    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{file}: {len(text)} bytes, more than {MAX_BYTES}")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)) > MAX_ALIASES:
            raise ConfigError(f"{file}: more than {MAX_ALIASES} YAML aliases")
        contents = list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    return [_checked(content, file, number) for number, content in enumerate(contents, 1) if content is not None]


def _checked(content: Any, file: Path, number: int) -> Document:
    where = f"{file}: document {number}"
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: want a mapping, found {type(content).__name__}")
    for field in ("apiVersion", "kind"):
        if not isinstance(content.get(field), str) or not content[field]:
            raise ConfigError(f"{where}: {field}: required, a string")
    return Document(content, source=str(file))


def _merge(target: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for name, value in extra.items():
        if isinstance(value, dict):
            below = target.get(name)
            target[name] = dict(below) if isinstance(below, dict) else {}
            _merge(target[name], value)
        else:
            target[name] = value


def _in_words(error: msgspec.ValidationError) -> str:
    text = str(error)
    message, _, place = text.partition(" - at `")
    place = place.rstrip("`").removeprefix("$").removeprefix(".")
    if message.startswith("Object contains unknown field `"):
        name = message.split("`")[1]
        return f"unknown field {f'{place}.{name}' if place else name}"
    return f"{place}: {message}" if place else message

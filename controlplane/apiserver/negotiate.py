"""Which form the client wants: JSON, YAML, protobuf, a Table, metadata only. Pure; reads the Accept header.

Protobuf is written only for who reads nothing else: JSON is stored, and costs nothing to send.
"""

import functools
from dataclasses import dataclass

from kube import status

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML, PROTOBUF)
FORMS = {"Table", "PartialObjectMetadata", "PartialObjectMetadataList"}


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a reply: `kind` is "" (the object), Table or PartialObjectMetadata, in `version` of meta.k8s.io."""

    kind: str = ""
    version: str = "v1"
    media: str = JSON

    @property
    def plain(self) -> bool:
        """Whether stored bytes can be sent as they are."""
        return not self.kind and self.media == JSON


PLAIN = Form()


@functools.lru_cache(maxsize=512)
def form(accept: str, *, watch: bool = False, binary: bool = False) -> Form:
    """The first acceptable form, in the client's order; 406 when there is none. `binary`: protobuf is one, the last."""
    if not accept:
        return PLAIN
    for media, parameters in clauses(accept):
        if media not in (JSON, YAML, "*/*", "application/*"):
            continue
        chosen = YAML if media == YAML else JSON
        wanted = parameters.get("as", "")
        if not wanted:
            if watch and parameters.get("stream", "watch") != "watch":
                continue
            return Form(media=chosen)
        version = parameters.get("v", "v1")
        if wanted in FORMS and parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Form(wanted.removesuffix("List"), version, chosen)
    if binary and (found := _binary(accept, watch=watch)) is not None:
        return found
    raise status.not_acceptable(ACCEPTED)


def _binary(accept: str, *, watch: bool) -> Form | None:
    for media, parameters in clauses(accept):
        wanted = parameters.get("as", "").removesuffix("List")
        if media != PROTOBUF or (watch and parameters.get("stream", "watch") != "watch"):
            continue
        if not wanted:
            return Form(media=PROTOBUF)
        if wanted == "PartialObjectMetadata" and (parameters.get("g"), parameters.get("v")) == ("meta.k8s.io", "v1"):
            return Form(wanted, media=PROTOBUF)
    return None


@functools.lru_cache(maxsize=512)
def only_binary(accept: str) -> bool:
    """Whether the client reads protobuf and nothing else of ours."""
    if PROTOBUF not in accept.lower():
        return False
    try:
        return form(accept, binary=True).media == PROTOBUF
    except status.ApiError:
        return False


def clauses(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The media ranges of an Accept header with their parameters, by falling quality, else in order."""
    found = []
    for index, clause in enumerate(accept.split(",")):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            found.append((-quality, index, media.lower(), parameters))
    return [(media, parameters) for _, _, media, parameters in sorted(found, key=lambda item: item[:2])]

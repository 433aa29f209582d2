"""As much of OpenAPI v2 as kubectl falls back to for a kind that v3 does not describe: the server checks fields itself.

Without it a misspelt kind is answered with a complaint about content types. Owns the bytes (protobuf
`openapi.v2.Document`, field numbers of gnostic's OpenAPIv2.proto). Must not know resources: v3 describes those.
"""

from collections.abc import Iterable

# What clients ask for, and what is answered: an @ has no place in a Content-Type.
ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
GROUP_VERSION_KIND = 'group: ""\nversion: v1\nkind: Namespace\n'
PATH = "/api/v1/namespaces/{name}"


def wanted(accept: str) -> bool:
    """Whether the client takes what we have."""
    return ASKED in accept or MEDIA_TYPE in accept


def document() -> bytes:
    """Namespace's PATCH, which takes `fieldValidation`: kubectl lets it stand for every kind it does not know."""
    query = _text(2, "query") + _text(4, "fieldValidation")
    parameter = _message(1, _message(2, _message(3, query)))
    extension = _text(1, "x-kubernetes-group-version-kind") + _message(2, _text(2, GROUP_VERSION_KIND))
    patch = _message(8, parameter) + _message(13, extension)
    path = _text(1, PATH) + _message(2, _message(8, patch))
    info = _text(1, "Kubernetes") + _text(2, "v1.36")
    return _join((_text(1, "2.0"), _message(2, info), _message(8, _message(2, path))))


def _join(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])

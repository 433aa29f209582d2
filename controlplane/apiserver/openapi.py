"""The OpenAPI v3 endpoints: an index of documents with content hashes, and the documents.

Owns paths, hashes and the cache. Must not know how documents are written: that is `kube.schema`.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from kube import scheme
from kube.schema import openapi

ROOT = "/openapi/v3"
_KEPT = 8


def index() -> bytes:
    """The body of `/openapi/v3`: per group and version the URL of its document, with its hash."""
    paths = {
        _path(group, version): {"serverRelativeURL": f"{ROOT}/{_path(group, version)}?hash={etag(group, version)}"}
        for group, version in scheme.group_versions()
    }
    return json.dumps({"paths": paths}, separators=(",", ":")).encode()


def document(path: str) -> bytes | None:
    """The document at `/openapi/v3/<path>` ("api/v1", "apis/apps/v1"), None when nothing is served there."""
    found = _split(path)
    return None if found is None else _document(*found)


def document_etag(path: str) -> str | None:
    """The hash of the document at a path, None when nothing is served there."""
    found = _split(path)
    return None if found is None else etag(*found)


@lru_cache(maxsize=256)
def etag(group: str, version: str) -> str:
    """The content hash of a document, upper-case hexadecimal as upstream's."""
    return hashlib.sha512(_document(group, version)).hexdigest().upper()


@lru_cache(maxsize=_KEPT)
def _document(group: str, version: str) -> bytes:
    return openapi.openapi_v3(group, version)


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _split(path: str) -> tuple[str, str] | None:
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) == 2:
        group, version = "", parts[1]
    elif parts[0] == "apis" and len(parts) == 3:
        group, version = parts[1], parts[2]
    else:
        return None
    return (group, version) if (group, version) in scheme.group_versions() else None

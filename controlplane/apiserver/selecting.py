"""Selectors and positions in a request: labelSelector, fieldSelector, resourceVersion, limit, continue. Pure.

Owns their checks and the continue token. Knows neither the store nor how a list is rendered.
"""

import base64
import binascii
import functools
from dataclasses import dataclass

import msgspec

import kube.fields
import kube.labels
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.request import Request
from controlplane.store.scope import Scope
from kube import status
from kube.scheme import Resource

METADATA_FIELDS = frozenset({"metadata.name", "metadata.namespace"})
MATCHES = ("Exact", "NotOlderThan")


class _Token(msgspec.Struct):
    v: str
    rv: int
    start: str


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of which snapshot a list wants. `revision` 0 = newest; `exact`: that one and no other."""

    revision: int = 0
    exact: bool = False
    limit: int = 0
    start: str = ""  # keys before it were sent already


def scope_of(request: Request) -> Scope:
    """The objects a request selects; 400 for a selector that cannot be read or a field that cannot be selected."""
    target = request.target
    namespace = target.namespace if request.resource.namespaced else ""
    labels, fields = request.query.get("labelSelector", ""), request.query.get("fieldSelector", "")
    if not labels and not fields:
        return Scope(namespace=namespace, name=target.name)
    selector = _labels(labels)
    chosen = _fields(request.resource, fields)
    name = target.name or chosen.exact("metadata.name") or ""
    return Scope(
        namespace=namespace,
        name=name,
        labels=None if selector.empty else selector,
        fields=None if chosen.empty else chosen,
    )


@functools.lru_cache(maxsize=1024)
def _labels(text: str) -> kube.labels.Selector:
    try:
        return kube.labels.parse(text)
    except kube.labels.SelectorError as e:
        raise status.bad_request(str(e)) from e


@functools.lru_cache(maxsize=1024)
def _fields(resource: Resource, text: str) -> kube.fields.FieldSelector:
    try:
        selector = kube.fields.parse(text)
    except kube.fields.FieldSelectorError as e:
        raise status.bad_request(str(e)) from e
    known = selectable(resource)
    for requirement in selector.requirements:
        if requirement.field not in known:
            raise status.bad_request(_unknown_field(requirement.field, known))
    return selector


def _unknown_field(field: str, known: frozenset[str]) -> str:
    if known == METADATA_FIELDS:
        return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f"field label not supported: {field}"


@functools.cache
def selectable(resource: Resource) -> frozenset[str]:
    """The fields a list or watch of the resource may select by."""
    empty = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {}}
    return METADATA_FIELDS | strategy_for(resource).field_values(empty).keys()


def page_of(request: Request) -> Page:
    """The snapshot and part of it that a list asks for; 400 or 422 when the parameters contradict each other."""
    limit = request.number("limit") or 0
    token = request.query.get("continue", "")
    text = request.query.get("resourceVersion", "")
    match = request.query.get("resourceVersionMatch", "")
    _check_match(match, text, token)
    if token:
        if text not in ("", "0"):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        revision, start = decode_token(token)
        return Page(revision=max(revision, 0), exact=revision > 0, limit=limit, start=start)
    revision = revision_of(text)
    # Upstream: a limit with a revision means exactly that snapshot unless told otherwise.
    exact = match == "Exact" or (limit > 0 and revision > 0 and not match)
    return Page(revision=revision, exact=exact and revision > 0, limit=limit)


def revision_of(text: str) -> int:
    """A resourceVersion as a number, 0 when absent; 400 when it is none."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit():
        error = status.invalid_value("resourceVersion", text, "strconv.ParseUint: parsing: invalid syntax")
        raise status.bad_request(str(error))
    return int(text)


def _check_match(match: str, revision: str, token: str) -> None:
    if not match:
        return
    field = "resourceVersionMatch"
    errors = []
    if match not in MATCHES:
        errors.append(status.unsupported(field, match, MATCHES))
    elif token:
        errors.append(status.forbidden_field(field, "resourceVersionMatch is forbidden when continue is provided"))
    elif not revision:
        errors.append(
            status.forbidden_field(field, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        )
    elif match == "Exact" and revision == "0":
        errors.append(
            status.forbidden_field(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    if errors:
        raise status.invalid("ListOptions.meta.k8s.io", "", errors)


def encode_token(revision: int, start: str) -> str:
    """A continue token: opaque for clients, `start` is the first key not sent. Revision -1: any snapshot will do."""
    data = msgspec.json.encode(_Token("meta.k8s.io/v1", revision, start))
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_token(text: str) -> tuple[int, str]:
    """Revision and first key of a continue token; 400 when it is not one of ours."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        token = msgspec.json.decode(data, type=_Token)
    except (binascii.Error, msgspec.DecodeError, ValueError) as e:
        raise status.bad_request(f"continue key is not valid: {e}") from e
    if token.v != "meta.k8s.io/v1":
        raise status.bad_request(
            f'continue key is not valid: server does not recognize this encoded version "{token.v}"'
        )
    return token.rv, token.start

"""The Status error tree: every failure of the API as one exception, in upstream's words.

Owns the message forms, reasons, codes and details people and tests read (apimachinery `api/errors`
and `util/validation/field`). Must not know who raises them or how they travel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kube.scheme import Resource

STALE = "the object has been modified; please apply your changes to the latest version and try again"
NOT_SERVED = "the server could not find the requested resource"

_REASON_BY_CODE = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """A failure as the API tells it; `status` is the whole Kubernetes Status body."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status.get("message", ""))
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return int(self.status.get("code") or 500)

    @property
    def reason(self) -> str:
        """The machine-readable reason, such as "NotFound"."""
        return str(self.status.get("reason") or "")

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self.status.get("message") or "")

    @property
    def details(self) -> dict[str, Any]:
        """name, group, kind, uid, causes, retryAfterSeconds; empty when the body has none."""
        return dict(self.status.get("details") or {})

    @property
    def retry_after(self) -> int | None:
        """Seconds the server asks the client to wait, or None."""
        seconds = self.details.get("retryAfterSeconds")
        return int(seconds) if seconds else None


def failure(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> ApiError:
    """An ApiError from its parts; details that are empty or None are left out."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    status |= {"message": message, "reason": reason}
    if details is not None:
        status["details"] = {key: value for key, value in details.items() if value not in (None, "", [], 0)}
    status["code"] = code
    return ApiError(status)


def success(*, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The Status body of a request that worked, as a finished deletion answers it."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return status | ({"details": dict(details)} if details else {})


# --- field errors ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FieldKind:
    text: str
    reason: str
    shows_value: bool


_FIELD_KINDS = {
    "NotFound": _FieldKind("Not found", "FieldValueNotFound", True),
    "Required": _FieldKind("Required value", "FieldValueRequired", False),
    "Duplicate": _FieldKind("Duplicate value", "FieldValueDuplicate", True),
    "Invalid": _FieldKind("Invalid value", "FieldValueInvalid", True),
    "TypeInvalid": _FieldKind("Invalid value", "FieldValueTypeInvalid", True),
    "NotSupported": _FieldKind("Unsupported value", "FieldValueNotSupported", True),
    "Forbidden": _FieldKind("Forbidden", "FieldValueForbidden", False),
    "TooLong": _FieldKind("Too long", "FieldValueTooLong", False),
    "TooMany": _FieldKind("Too many", "FieldValueTooMany", True),
    "Internal": _FieldKind("Internal error", "InternalError", False),
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken field: `kind` is a key such as "Required" or "Invalid", `field` its path from the root.

    `str()` is upstream's line: `spec.x: Invalid value: "v": why`.
    """

    kind: str
    field: str
    message: str = ""
    value: Any = None

    @property
    def body(self) -> str:
        """The line without the field path, as a cause carries it."""
        kind = _FIELD_KINDS[self.kind]
        shown = f"{kind.text}: {_shown(self.value)}" if kind.shows_value else kind.text
        return f"{shown}: {self.message}" if self.message else shown

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"

    def cause(self) -> dict[str, str]:
        """The entry of `details.causes`."""
        return {"reason": _FIELD_KINDS[self.kind].reason, "message": self.body, "field": self.field}


class Literal(str):
    """A value shown as it is, without quotes: `null` for an absent map or list."""

    __slots__ = ()


def _shown(value: Any) -> str:
    if value is None:
        return '"null"'
    if isinstance(value, Literal):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def required(field: str, message: str = "") -> FieldError:
    """`field: Required value: message`."""
    return FieldError("Required", field, message)


def invalid_value(field: str, value: Any, message: str = "") -> FieldError:
    """`field: Invalid value: "value": message`."""
    return FieldError("Invalid", field, message, value)


def unsupported(field: str, value: Any, supported: Sequence[str]) -> FieldError:
    """`field: Unsupported value: "value": supported values: "a", "b"`; the values are sorted."""
    listed = ", ".join(json.dumps(item, ensure_ascii=False) for item in sorted(supported))
    return FieldError("NotSupported", field, f"supported values: {listed}" if listed else "", value)


def forbidden_field(field: str, message: str) -> FieldError:
    """`field: Forbidden: message`."""
    return FieldError("Forbidden", field, message)


def duplicate(field: str, value: Any) -> FieldError:
    """`field: Duplicate value: "value"`."""
    return FieldError("Duplicate", field, "", value)


def too_long(field: str, limit: int) -> FieldError:
    """`field: Too long: may not be more than N bytes`."""
    return FieldError("TooLong", field, f"may not be more than {limit} bytes")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    """`field: Too many: N: must have at most M items`."""
    return FieldError("TooMany", field, f"must have at most {limit} items", actual)


def aggregate(errors: Sequence[object]) -> str:
    """Several errors as upstream joins them: the one message, or `[a, b]`; repeats are said once."""
    messages = list(dict.fromkeys(str(error) for error in errors))
    return messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"


# --- constructors ----------------------------------------------------------------------------------


def _of(resource: Resource | None, name: str = "", **more: Any) -> dict[str, Any]:
    where = {"name": name, "group": resource.group, "kind": resource.plural} if resource else {"name": name}
    return where | more


def not_found(resource: Resource, name: str) -> ApiError:
    """404: `pods "x" not found`."""
    return failure(404, "NotFound", f'{resource.group_resource} "{name}" not found', _of(resource, name))


def not_served() -> ApiError:
    """404 for a path or resource the server does not know."""
    return failure(404, "NotFound", NOT_SERVED, {})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409: `deployments.apps "x" already exists`."""
    return failure(409, "AlreadyExists", f'{resource.group_resource} "{name}" already exists', _of(resource, name))


def name_not_generated(resource: Resource, name: str) -> ApiError:
    """409 after generateName found no free name; `name` is the last one tried."""
    why = "already exists, the server was not able to generate a unique name for the object"
    return failure(409, "AlreadyExists", f'{resource.group_resource} "{name}" {why}', _of(resource, name))


def conflict(resource: Resource, name: str, message: str = STALE) -> ApiError:
    """409: `Operation cannot be fulfilled on pods "x": message`."""
    text = f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {message}'
    return failure(409, "Conflict", text, _of(resource, name))


def invalid(kind: str | Resource, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422: `Pod "x" is invalid: spec.containers[0].image: Required value`; one cause per error.

    `kind` is a Resource, or text such as "Pod" or "Deployment.apps".
    """
    text = kind if isinstance(kind, str) else kind.group_kind
    bare, _, group = text.partition(".")
    said = f": {aggregate(errors)}" if errors else ""
    details = {"name": name, "group": group, "kind": bare, "causes": [error.cause() for error in errors]}
    return failure(422, "Invalid", f'{text} "{name}" is invalid{said}', details)


def bad_request(message: str) -> ApiError:
    """400."""
    return failure(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    """401."""
    return failure(401, "Unauthorized", message)


def forbidden(message: str, *, resource: Resource | None = None, name: str = "") -> ApiError:
    """403: `pods "x" is forbidden: message`, `pods is forbidden: message` or `forbidden: message`."""
    if resource is None:
        text = f"forbidden: {message}"
    elif name:
        text = f'{resource.group_resource} "{name}" is forbidden: {message}'
    else:
        text = f"{resource.group_resource} is forbidden: {message}"
    return failure(403, "Forbidden", text, _of(resource, name))


def method_not_allowed(resource: Resource | None = None, action: str = "") -> ApiError:
    """405: `create is not supported on resources of kind "pods"`."""
    if resource is None:
        return failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})
    text = f'{action} is not supported on resources of kind "{resource.group_resource}"'
    return failure(405, "MethodNotAllowed", text, _of(resource))


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    """406, naming the media types the server can answer in."""
    return failure(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415, naming the media types the server can read."""
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return failure(415, "UnsupportedMediaType", text)


def expired(message: str) -> ApiError:
    """410 Expired: a resourceVersion or continue token is too old."""
    return failure(410, "Expired", message)


def gone(message: str) -> ApiError:
    """410 Gone."""
    return failure(410, "Gone", message)


def too_large(message: str) -> ApiError:
    """413: `Request entity too large: message`."""
    return failure(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def too_many_requests(message: str, *, retry_after: int = 1) -> ApiError:
    """429 with the seconds to wait."""
    return failure(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})


def eviction_blocked(message: str, *, causes: Sequence[Mapping[str, str]], retry_after: int = 0) -> ApiError:
    """429 of an eviction that a disruption budget does not allow."""
    return failure(429, "TooManyRequests", message, {"causes": list(causes), "retryAfterSeconds": retry_after})


def timeout(message: str, *, retry_after: int = 0) -> ApiError:
    """504: `Timeout: message`."""
    return failure(504, "Timeout", f"Timeout: {message}", {"retryAfterSeconds": retry_after})


def future_resource_version(requested: int, current: int) -> ApiError:
    """504 for a resourceVersion the server has not reached; client-go knows it by its cause."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    text = f"Timeout: Too large resource version: {requested}, current: {current}"
    return failure(504, "Timeout", text, {"causes": [cause], "retryAfterSeconds": 1})


def server_timeout(resource: Resource, operation: str, *, retry_after: int = 1) -> ApiError:
    """500 ServerTimeout: the operation may be tried again."""
    text = f"The {operation} operation against {resource.group_resource} could not be completed at this time, "
    return failure(500, "ServerTimeout", text + "please try again.", _of(resource, retryAfterSeconds=retry_after))


def internal(message: str) -> ApiError:
    """500: `Internal error occurred: message`."""
    details = {"causes": [{"message": message}]}
    return failure(500, "InternalError", f"Internal error occurred: {message}", details)


def unavailable(message: str, *, retry_after: int = 0) -> ApiError:
    """503."""
    return failure(503, "ServiceUnavailable", message, {"retryAfterSeconds": retry_after} if retry_after else None)


# --- reading ---------------------------------------------------------------------------------------


def from_body(code: int, body: bytes) -> ApiError:
    """The error of a reply; a body that is no Status becomes one with the code's usual reason."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return ApiError({"code": code, **status})
    text = body.decode("utf-8", "replace").strip() or f"the server answered {code} without a body"
    return failure(code, _REASON_BY_CODE.get(code, "Unknown"), text[:1024])


def is_not_found(error: BaseException) -> bool:
    """True for 404 NotFound."""
    return isinstance(error, ApiError) and error.reason == "NotFound"


def is_conflict(error: BaseException) -> bool:
    """True for 409 Conflict: read again, then retry."""
    return isinstance(error, ApiError) and error.reason == "Conflict"


def is_already_exists(error: BaseException) -> bool:
    """True for 409 AlreadyExists."""
    return isinstance(error, ApiError) and error.reason == "AlreadyExists"


def is_namespace_ending(error: BaseException) -> bool:
    """True for 403 because the namespace is on its way out: what was refused is not wanted any more."""
    causes = error.details.get("causes") or () if isinstance(error, ApiError) else ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def is_gone(error: BaseException) -> bool:
    """True when a resourceVersion or continue token is too old: list again."""
    return isinstance(error, ApiError) and error.reason in ("Expired", "Gone")

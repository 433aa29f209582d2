"""The fields of a body against its type: refused, warned about or dropped, as fieldValidation asks.

Owns the parameter and the words of the refusals; the walk over the schemas is `kube.schema`'s.
"""

from typing import Any

import orjson

import kube.patch
from controlplane.apiserver import body
from controlplane.apiserver.request import Request
from kube import schema, status
from kube.scheme import Resource

Object = dict[str, Any]
MODES = ("Ignore", "Strict", "Warn")


def mode_of(request: Request) -> str:
    """Strict, Warn or Ignore; Warn when the client does not say; 422 for anything else."""
    mode = request.query.get("fieldValidation") or "Warn"
    if mode not in MODES:
        error = status.unsupported("fieldValidation", mode, MODES)
        raise status.invalid("CreateOptions.meta.k8s.io", "", [error])
    return mode


def apply(request: Request, obj: Object, *, raw: bytes | None) -> None:
    """Check and prune a decoded body. `raw` is its JSON text, to find fields that were given twice."""
    mode = mode_of(request)
    report = _report(obj, strict=mode != "Ignore")
    if report.fault:
        raise status.bad_request(report.message(strict=False))
    if mode == "Ignore":
        return
    problems = report.warnings()
    if raw is not None and "fieldValidation" in request.query:
        problems += [f'duplicate field "{path}"' for path in body.duplicates(raw)]
    if not problems:
        return
    if mode == "Strict":
        kind = report.kind
        text = f'{kind} in version "{report.version}" cannot be handled as a {kind}: strict decoding error: '
        raise status.bad_request(text + ", ".join(problems))
    request.warnings.extend(problems)


def apply_to(obj: Object, *, api_version: str, kind: str) -> None:
    """Check and prune a body whose type follows from the URL; what it says of its own type is checked elsewhere."""
    report = _report_as(api_version, kind, obj, strict=False)
    if report.fault:
        raise status.bad_request(report.message(strict=False))


def apply_patched(request: Request, obj: Object, document: Any) -> None:
    """Check and prune what a patch made of an object; faults are the patch's."""
    mode = mode_of(request)
    report = _report(obj, strict=mode != "Ignore")
    problem = report.fault or (report.strict_error() if mode == "Strict" else "")
    if problem:
        shown = orjson.dumps(document).decode()
        raise status.invalid("", "", [status.invalid_value("patch", shown, problem)])
    if mode == "Warn":
        request.warnings.extend(report.warnings())


def merge_rules(resource: Resource) -> kube.patch.MergeRules:
    """How the fields of a kind merge under a strategic merge patch; 415 for a kind without such rules."""
    try:
        return schema.merge_rules(resource.api_version, resource.kind)
    except schema.UnknownKind as e:
        raise status.unsupported_media_type(("application/json-patch+json", "application/merge-patch+json")) from e


def _report(obj: Object, *, strict: bool) -> schema.Report:
    return _report_as(obj["apiVersion"], obj["kind"], obj, strict=strict)


def _report_as(api_version: str, kind: str, obj: Object, *, strict: bool) -> schema.Report:
    try:
        return schema.check(api_version, kind, obj, strict=strict, prune=True)
    except schema.UnknownKind:
        return schema.Report(kind, api_version.rpartition("/")[2])

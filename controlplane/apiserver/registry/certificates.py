"""The strategy of CertificateSigningRequests: what may be asked, and who may change which part of the answer.

Approval and status are two views of one object: approvers write conditions, signers the certificate. Rules and words
are upstream's (`pkg/apis/certificates/validation`). Must not know who approves and who signs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar

from cryptography import x509

from controlplane.apiserver.registry import ages, columns, field, metadata, names
from controlplane.apiserver.registry.columns import Column
from controlplane.apiserver.registry.strategy import JSON, Plain, View
from kube import csr

LEGACY = "kubernetes.io/legacy-unknown"
MIN_SECONDS = 600
DECIDED = ("Approved", "Denied")
LASTING = (*DECIDED, "Failed")
_STATUSES = ("False", "True", "Unknown")
_USAGES = sorted([*csr.KEY_USAGES, *csr.EXTENDED_USAGES])
_MAX_SIGNER = 571


def conditions(obj: JSON) -> list[JSON]:
    """The conditions of a request."""
    return (obj.get("status") or {}).get("conditions") or []


def has(obj: JSON, kind: str) -> bool:
    """Whether a condition of a type is there."""
    return any(each.get("type") == kind for each in conditions(obj))


def _check(obj: JSON) -> field.Errors:
    spec = obj.get("spec") or {}
    usages = spec.get("usages") or []
    errors: field.Errors = []
    try:
        csr.read(base64.b64decode(spec.get("request") or ""))
    except (csr.RequestError, binascii.Error, ValueError) as e:
        errors.append(field.invalid("spec.request", spec.get("request") or "", str(e)))
    if not usages:
        errors.append(field.required("spec.usages"))
    for index, usage in enumerate(usages):
        path = f"spec.usages[{index}]"
        if usage not in _USAGES:
            errors.append(field.unsupported(path, usage, _USAGES))
        if usage in usages[:index]:
            errors.append(field.duplicate(path, usage))
    errors += _signer("spec.signerName", spec.get("signerName") or "")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < MIN_SECONDS:
        why = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(field.invalid("spec.expirationSeconds", seconds, why))
    return errors + _check_status(obj)


def _signer(path: str, name: str) -> field.Errors:
    if not name:
        return [field.required(path)]
    if name == LEGACY:
        return [field.invalid(path, name, "the legacy signerName is not allowed via this API version")]
    domain, slash, rest = name.partition("/")
    if not slash or not domain or not rest or "/" in rest:
        return [field.invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer'")]
    if len(name) > _MAX_SIGNER:
        return [field.too_long(path, _MAX_SIGNER)]
    faults = list(names.dns_subdomain(domain))
    if "." not in domain:
        faults.append("should be a domain with at least two segments separated by dots")
    return field.invalids(path, domain, faults) + field.invalids(path, rest, names.dns_subdomain(rest))


def _check_status(obj: JSON) -> field.Errors:
    errors: field.Errors = []
    seen: set[str] = set()
    for index, each in enumerate(conditions(obj)):
        path, kind, state = f"status.conditions[{index}]", each.get("type") or "", each.get("status") or ""
        allowed = ("True",) if kind in LASTING else _STATUSES
        if not kind:
            errors.append(field.required(f"{path}.type"))
        if not state:
            errors.append(field.required(f"{path}.status"))
        elif state not in allowed:
            errors.append(field.unsupported(f"{path}.status", state, allowed))
        if kind in seen:
            errors.append(field.duplicate(f"{path}.type", kind))
        seen.add(kind)
        if kind in DECIDED and seen >= set(DECIDED):
            why = "Approved and Denied conditions are mutually exclusive"
            errors.append(field.invalid("status.conditions", kind, why))
    if fault := _certificate_fault((obj.get("status") or {}).get("certificate")):
        errors.append(field.invalid("status.certificate", "<certificate data>", fault))
    return errors


def _certificate_fault(encoded: str | None) -> str:
    if not encoded:
        return ""
    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(encoded))
    except (ValueError, binascii.Error) as e:
        return f"must contain at least one CERTIFICATE PEM block: {e}"
    return "" if found else "must contain at least one CERTIFICATE PEM block"


def _check_change(obj: JSON, old: JSON, *, approves: bool = False, signs: bool = False) -> field.Errors:
    errors = metadata.validate_update(obj.get("metadata") or {}, old.get("metadata") or {})
    for kind in LASTING:
        was, now = ([each for each in conditions(it) if each.get("type") == kind] for it in (old, obj))
        word = ""
        if len(now) < len(was):
            word = "remove"
        elif kind in DECIDED and not approves and now != was:
            word = "add" if len(now) > len(was) else "modify"
        if word:
            errors.append(field.forbidden("status.conditions", f'updates may not {word} a condition of type "{kind}"'))
    before, after = ((it.get("status") or {}).get("certificate") or "" for it in (old, obj))
    if before != after and not signs:
        errors.append(field.forbidden("status.certificate", "updates may not set certificate content"))
    elif before and before != after:
        errors.append(field.forbidden("status.certificate", "updates may not modify existing certificate content"))
    return _check(obj) + errors


def _keep(obj: JSON, old: JSON, **status: Any) -> None:
    """Everything as it was, but for the given parts of the status (None: not there)."""
    spec, before = old.get("spec"), dict(old.get("status") or {})
    obj["spec"] = spec
    obj["status"] = {key: value for key, value in (before | status).items() if value is not None}


def _prepare_approval(obj: JSON, old: JSON) -> None:
    _keep(obj, old, conditions=conditions(obj) or None)


def _check_approval(obj: JSON, old: JSON) -> field.Errors:
    return _check_change(obj, old, approves=True)


def _prepare_status(obj: JSON, old: JSON) -> None:
    _keep(obj, old, conditions=conditions(obj) or None, certificate=(obj.get("status") or {}).get("certificate"))


def _check_signed(obj: JSON, old: JSON) -> field.Errors:
    return _check_change(obj, old, signs=True)


def _any_name(name: str) -> tuple[str, ...]:
    """Upstream takes any name that can stand in a path."""
    return tuple(f"may not contain '{sign}'" for sign in "/%" if sign in name)


class CertificateSigningRequests(Plain):
    """CertificateSigningRequests."""

    name_rule: ClassVar[names.NameRule] = staticmethod(_any_name)
    columns: tuple[Column, ...] = (
        columns.NAME,
        columns.AGE,
        Column("SignerName", "Who is asked to sign."),
        Column("Requestor", "Who asks."),
        Column("RequestedDuration", "How long the certificate should hold."),
        Column("Condition", "What became of it."),
    )
    views: Mapping[str, View] = MappingProxyType({"approval": View(_prepare_approval, _check_approval)})

    def prepare_update(self, obj: JSON, old: JSON) -> None:
        _keep(obj, old)
        if "status" not in old:
            del obj["status"]

    def prepare_status(self, obj: JSON, old: JSON) -> None:
        _prepare_status(obj, old)

    def validate(self, obj: JSON) -> field.Errors:
        return _check(obj)

    def validate_status(self, obj: JSON, old: JSON) -> field.Errors:
        return _check_signed(obj, old)

    def field_values(self, obj: JSON) -> dict[str, str]:
        return {"spec.signerName": (obj.get("spec") or {}).get("signerName") or ""}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec = obj.get("spec") or {}
        seconds = spec.get("expirationSeconds")
        return [
            columns.name(obj),
            columns.age(obj, now),
            spec.get("signerName") or columns.UNSET,
            spec.get("username") or "",
            columns.UNSET if seconds is None else ages.human(seconds),
            _signing_word(obj),
        ]


def _signing_word(obj: JSON) -> str:
    kinds = [each.get("type") for each in conditions(obj)]
    words = [kind for kind in ("Approved", "Denied") if kind in kinds] or ["Pending"]
    words = ["Denied"] if "Denied" in kinds else words
    if "Failed" in kinds:
        words.append("Failed")
    return ",".join([*words, "Issued"] if (obj.get("status") or {}).get("certificate") else words)

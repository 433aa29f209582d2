"""JSON merge patch (RFC 7386): maps merge, null removes, everything else replaces."""

from __future__ import annotations

from typing import Any

from kube.patch.errors import MALFORMED, PatchError
from kube.patch.values import copied


def merge_patch(doc: dict[str, Any], patch: Any) -> dict[str, Any]:
    """The document with `patch` merged in. Raises PatchError when the patch is no JSON object."""
    if not isinstance(patch, dict):
        raise PatchError("cannot unmarshal the merge patch: it must be a JSON object", code=MALFORMED)
    merged: dict[str, Any] = _merged(doc, patch)
    return merged


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copied(patch)
    old = target if isinstance(target, dict) else {}
    result = {key: copied(value) for key, value in old.items() if key not in patch}
    for key, value in patch.items():
        if value is not None:
            result[key] = _merged(old.get(key), value)
    return result

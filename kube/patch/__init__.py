"""The ways to patch an object: JSON patch, merge patch, strategic merge patch, and server-side apply.

Owns applying a patch to a document. Inputs are never changed and the result shares nothing with them.
Must not know HTTP, kinds or storage: the rules of a type come in as a `MergeRules` or a `Structure`. Server-side
apply is in `apply` (what a write makes of an object and its owners), on top of `owners`, `typed` and `fieldset`.
"""

from kube.patch.errors import PatchError
from kube.patch.json_patch import MAX_OPERATIONS, json_patch
from kube.patch.merge_patch import merge_patch
from kube.patch.strategic import FieldRule, MergeRules, strategic_merge

__all__ = ["MAX_OPERATIONS", "FieldRule", "MergeRules", "PatchError", "json_patch", "merge_patch", "strategic_merge"]

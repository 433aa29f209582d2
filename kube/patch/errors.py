"""The one error of this package, with the HTTP code the API server answers."""

from __future__ import annotations

MALFORMED = 400
TOO_LARGE = 413
REJECTED = 422


class PatchError(Exception):
    """A patch that is malformed (`code` 400), too large (413), or does not fit the document (422)."""

    def __init__(self, message: str, *, code: int = REJECTED) -> None:
        super().__init__(message)
        self.code = code

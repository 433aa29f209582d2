"""The error tree of the control plane. API answers are `kube.status.ApiError`; all else that can fail is here."""


class ControlPlaneError(Exception):
    """Root of what this package raises on purpose; the text is meant for the operator."""


class ConfigurationError(ControlPlaneError):
    """The configuration or the machine does not allow the server to start; the text says what to change."""


class StoreError(ControlPlaneError):
    """Root of the store's failures."""


class RevisionConflict(StoreError):
    """The object is not at the expected revision. `current` is the revision it has, 0 when it does not exist."""

    def __init__(self, name: str, *, expected: int, current: int) -> None:
        super().__init__(f"{name}: expected revision {expected}, found {current}")
        self.name = name
        self.expected = expected
        self.current = current


class StoreFull(StoreError):
    """No space left for the log; the write was not kept and nothing stored was harmed."""


class StoreUnavailable(StoreError):
    """The log cannot be written or read (closed, locked by another server, damaged disk)."""


class SchemaTooNew(StoreError):
    """The file was written by a newer release; going back would lose what that release stored."""

"""Errors of the lab. Each says what is wrong in words for the person at the keyboard, and what mends it."""


class LabError(Exception):
    """The lab cannot do what was asked; `hint` is the command or change that helps, if one is known."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NotRunning(LabError):
    """There is no lab in this state directory."""

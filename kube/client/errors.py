"""The client's error tree.

    ClientError
      Unreachable      no answer came: nobody knows whether the request had an effect
    kube.status.ApiError   an answer came, and it was a failure

Library exceptions end here.
"""


class ClientError(Exception):
    """Base of what the client raises by itself."""


class Unreachable(ClientError):
    """No (complete) answer: `server` is who was asked, `reason` what happened, in words."""

    def __init__(self, server: str, reason: str) -> None:
        self.server, self.reason = server, reason
        super().__init__(f"{server} cannot be reached: {reason}")

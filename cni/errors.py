"""The CNI error codes (CNI specification 1.1.0, section "Error") and the one exception that carries them.

Owns the error object `{cniVersion, code, msg, details}`. Must not know how a request arrived.
"""

from collections.abc import Mapping

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
BAD_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
# 100 and above are the plugin's own.
CHECK_FAILED = 100
ADDRESSES_EXHAUSTED = 101
LINK_FAILURE = 102
PORT_TAKEN = 103
PORTS_FAILURE = 104


class CniError(Exception):
    """A failure as the runtime sees it: a code of the specification, a short message and the details."""

    def __init__(self, code: int, message: str, *, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.code = code
        self.message = message
        self.details = details

    def body(self, *, version: str) -> Mapping[str, object]:
        """The error object that goes to standard output; `details` is left out when empty."""
        body: dict[str, object] = {"cniVersion": version, "code": self.code, "msg": self.message}
        if self.details:
            body["details"] = self.details
        return body

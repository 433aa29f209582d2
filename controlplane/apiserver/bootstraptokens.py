"""Bootstrap tokens as proof of identity: user `system:bootstrap:<id>`, in the groups its Secret names.

Owns which token counts (upstream `plugin/pkg/auth/authenticator/token/bootstrap`). Knows neither HTTP nor the store.
"""

import hmac
import logging
from collections.abc import Callable

from kube import bootstraptoken, status
from kube.client.identity import User
from kube.runtime.clock import Clock

log = logging.getLogger(__name__)


class BootstrapTokens:
    """Judges texts of the form of a bootstrap token; `find` reads the Secret of an id."""

    def __init__(self, find: Callable[[str], bootstraptoken.Kept | None], *, clock: Clock) -> None:
        self._find = find
        self._clock = clock

    def user(self, text: str) -> User | None:
        """Who a token proves; None for a text of another form, 401 for a token that is not good (any more)."""
        try:
            token = bootstraptoken.parse(text)
        except bootstraptoken.TokenError:
            return None
        kept = self._find(token.id)
        if kept is None or not hmac.compare_digest(kept.token.secret, token.secret):
            log.info("bootstrap token %s was refused: there is no such token, or its secret is another", token.id)
            raise status.unauthorized()
        if not kept.authenticates or kept.expired(self._clock.now()):
            log.info("bootstrap token %s was refused: it %s", token.id, _fault(kept))
            raise status.unauthorized()
        return User(bootstraptoken.USER_PREFIX + token.id, (bootstraptoken.GROUP, *kept.groups))


def _fault(kept: bootstraptoken.Kept) -> str:
    return f"expired at {kept.expires}" if kept.authenticates else "is not for authentication"

"""Who asks: the in-process identity, the client certificate, a bootstrap or service account token, or nobody.

Owns the order of the proofs and 401. Knows nothing of what the user may do.
"""

import logging
from collections.abc import Callable

from controlplane.apiserver import tokens
from controlplane.apiserver.request import NOBODY, Scope
from kube import pki, status
from kube.client.identity import User

log = logging.getLogger(__name__)

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
CACHED = 1024


class Authenticator:
    """Turns the proofs of a connection and its headers into a user."""

    def __init__(self, verifier: tokens.Tokens, *, bootstrap: Callable[[str], User | None]) -> None:
        self._tokens = verifier
        self._bootstrap = bootstrap
        self._by_certificate: dict[bytes, User] = {}

    def identify(self, scope: Scope) -> User:
        """The user of a request; 401 for credentials that are there but not good."""
        state = scope.get("state") or {}
        if (user := state.get("user")) is not None:
            return _authenticated(user)
        if (der := state.get("peer_certificate")) is not None:
            return self._of_certificate(der)
        for name, value in scope["headers"]:
            if name == b"authorization":
                return self._of_header(value.decode("latin-1"))
        return NOBODY

    def _of_certificate(self, der: bytes) -> User:
        """The TLS handshake has checked the chain; the subject says who it is."""
        user = self._by_certificate.get(der)
        if user is None:
            try:
                name, groups = pki.subject(der)
            except pki.PkiError as e:
                raise status.unauthorized() from e
            if not name:
                raise status.unauthorized()
            if len(self._by_certificate) >= CACHED:
                self._by_certificate.clear()
            user = self._by_certificate[der] = _authenticated(User(name, groups))
        return user

    def _of_header(self, header: str) -> User:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise status.unauthorized()
        if (machine := self._bootstrap(token.strip())) is not None:
            return _authenticated(machine)
        try:
            user, _ = self._tokens.verify(token.strip())
        except tokens.InvalidToken as e:
            log.info("a bearer token was refused: %s", e)
            raise status.unauthorized() from e
        return user


def _authenticated(user: User) -> User:
    if AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra)

"""Service account tokens: minted for a pod or an account, verified against the signing keys and what still exists.

Owns the claims (upstream `pkg/serviceaccount/claims.go`) and the OpenID documents. Knows no HTTP.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import errors as jose
from joserfc import jwt
from joserfc.jwk import ECKey, JWKRegistry, KeySet, RSAKey

from controlplane import errors
from kube.client.identity import User
from kube.runtime.clock import Clock

Object = dict[str, Any]
MIN_SECONDS = 600
DEFAULT_SECONDS = 3600
MAX_SECONDS = 1 << 32
POD_TOKEN_SECONDS = 3607  # kubelets ask for this much; extended for clients that never read the file again
EXTENDED_SECONDS = 365 * 24 * 3600
ALGORITHMS = ["ES256", "RS256"]
LEEWAY_SECONDS = 60
CACHED = 2048


class InvalidToken(errors.ControlPlaneError):
    """A bearer token that proves nothing; the text is for the log, never for the client."""


class Lookup(Protocol):
    """What tokens are bound to, read from the store; each returns the uid, or None when it is gone."""

    def service_account_uid(self, *, namespace: str, name: str) -> str | None:
        """The uid of an account."""

    def pod_uid(self, *, namespace: str, name: str) -> str | None:
        """The uid of a pod."""

    def secret_uid(self, *, namespace: str, name: str) -> str | None:
        """The uid of a secret."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a token is bound to besides its account."""

    kind: str
    name: str
    uid: str
    node: Object | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh token and when it ends (seconds since the epoch)."""

    token: str
    expires: int


class Tokens:
    """Signs with the first key of the folder, accepts every public key in it."""

    def __init__(self, folder: Path, *, issuer: str, lookup: Lookup, clock: Clock) -> None:
        self._issuer = issuer
        self._lookup = lookup
        self._clock = clock
        self._signing, self._keys = _load(folder)
        self._verified: dict[bytes, Object] = {}

    @property
    def issuer(self) -> str:
        """The issuer, which is also the default audience."""
        return self._issuer

    def mint(
        self,
        *,
        namespace: str,
        account: Object,
        audiences: Sequence[str],
        seconds: int,
        bound: Bound | None,
    ) -> Minted:
        """A token for `account` (its metadata), living `seconds`, bound to a pod or secret if given."""
        now = int(self._clock.now().timestamp())
        audiences = list(audiences) or [self._issuer]
        private: Object = {
            "namespace": namespace,
            "serviceaccount": {"name": account["name"], "uid": account["uid"]},
        }
        if bound is not None:
            private[bound.kind.lower()] = {"name": bound.name, "uid": bound.uid}
            if bound.node:
                private["node"] = bound.node
        lifetime = seconds
        if seconds == POD_TOKEN_SECONDS and bound is not None and bound.kind == "Pod" and audiences == [self._issuer]:
            lifetime = EXTENDED_SECONDS
            private["warnafter"] = now + seconds
        claims = {
            "aud": audiences,
            "exp": now + lifetime,
            "iat": now,
            "iss": self._issuer,
            "jti": str(uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{account['name']}",
        }
        key = self._signing
        header = {"alg": _algorithm(key), "kid": key.kid}
        return Minted(jwt.encode(header, claims, key, algorithms=ALGORITHMS), now + seconds)

    def verify(self, token: str, *, audiences: Sequence[str] = ()) -> tuple[User, list[str]]:
        """Who a token proves, and for which of the audiences; InvalidToken when it proves nobody (any more)."""
        claims = self._claims(token)
        now = self._clock.now().timestamp()
        if not claims["nbf"] - LEEWAY_SECONDS <= now < claims["exp"]:
            raise InvalidToken("the token has expired or is not valid yet")
        if claims.get("iss") != self._issuer:
            raise InvalidToken("another issuer")
        wanted = list(audiences) or [self._issuer]
        matching = [name for name in wanted if name in claims["aud"]]
        if not matching:
            raise InvalidToken(f"the token is meant for {claims['aud']}, not for {wanted}")
        return self._alive(claims), matching

    def jwks(self) -> Object:
        """The public keys as /openid/v1/jwks shows them."""
        keys = []
        for key in self._keys.keys:
            public = key.as_dict(private=False)
            keys.append({**public, "use": "sig", "alg": _algorithm(key), "kid": key.kid})
        return {"keys": keys}

    def _claims(self, token: str) -> Object:
        """The claims of a well-signed token; the signature of a known token is not computed again."""
        digest = hashlib.sha256(token.encode()).digest()
        if (known := self._verified.get(digest)) is not None:
            return known
        try:
            claims = dict(jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims)
            for name, kind in (("exp", int), ("nbf", int), ("sub", str), ("kubernetes.io", dict)):
                if not isinstance(claims.get(name), kind):
                    raise InvalidToken(f"claim {name} is missing")
            aud = claims.get("aud")
            claims["aud"] = [aud] if isinstance(aud, str) else list(aud or [])
        except (jose.JoseError, ValueError, TypeError, KeyError) as e:
            raise InvalidToken(f"not a token of this cluster: {e}") from e
        if len(self._verified) >= CACHED:
            self._verified.clear()
        self._verified[digest] = claims
        return claims

    def _alive(self, claims: Object) -> User:
        private = claims["kubernetes.io"]
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        if self._lookup.service_account_uid(namespace=namespace, name=account.get("name", "")) != account.get("uid"):
            raise InvalidToken("the service account is gone")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims.get('jti', '')}",)}
        if (pod := private.get("pod")) is not None:
            if self._lookup.pod_uid(namespace=namespace, name=pod.get("name", "")) != pod.get("uid"):
                raise InvalidToken("the pod is gone")
            extra["authentication.kubernetes.io/pod-name"] = (pod["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (pod["uid"],)
        if (secret := private.get("secret")) is not None and self._lookup.secret_uid(
            namespace=namespace, name=secret.get("name", "")
        ) != secret.get("uid"):
            raise InvalidToken("the secret is gone")
        if (node := private.get("node")) is not None:
            extra["authentication.kubernetes.io/node-name"] = (node["name"],)
            if node.get("uid"):
                extra["authentication.kubernetes.io/node-uid"] = (node["uid"],)
        name = f"system:serviceaccount:{namespace}:{account['name']}"
        if claims["sub"] != name:
            raise InvalidToken("the subject is not the account")
        return User(name, service_account_groups(namespace), account["uid"], extra)


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """The groups every service account of a namespace is in."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")


def _load(folder: Path) -> tuple[ECKey | RSAKey, KeySet]:
    """The signing key, and every key that is accepted: sa.pub and any sa-*.pub beside it (rotation with overlap)."""
    try:
        signing = _import((folder / "sa.key").read_bytes())
        public = [_import(path.read_bytes()) for path in sorted(folder.glob("sa*.pub"))]
    except (OSError, ValueError) as e:
        raise errors.ConfigurationError(f"service account keys in {folder}: {e}") from e
    return signing, KeySet([*(public or [signing])])


def _import(pem: bytes) -> ECKey | RSAKey:
    if b"PRIVATE" in pem:
        public = serialization.load_pem_private_key(pem, password=None).public_key()
    else:
        public = serialization.load_pem_public_key(pem)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    # The key id is what upstream derives: the hash of the public key, so that keys may rotate with overlap.
    kid = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    kind: Literal["EC", "RSA"] = "EC" if isinstance(public, ec.EllipticCurvePublicKey) else "RSA"
    key = JWKRegistry.import_key(pem, kind, {"kid": kid})
    if not isinstance(key, ECKey | RSAKey):
        raise ValueError("want an EC or an RSA key")
    return key


def _algorithm(key: object) -> str:
    return "ES256" if isinstance(key, ECKey) else "RS256"

"""Bootstrap tokens: the text a new machine is given, and the Secret the cluster keeps of it.

Owns their form (upstream `staging/src/k8s.io/cluster-bootstrap/token/api/types.go`) and the join string, which is a
token and the pin of the cluster's CA: `abcdef.0123456789abcdef@sha256:<hex>`. Knows neither server nor files.
"""

import base64
import binascii
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

SECRET_TYPE: Final = "bootstrap.kubernetes.io/token"
SECRET_PREFIX: Final = "bootstrap-token-"
NAMESPACE: Final = "kube-system"
USER_PREFIX: Final = "system:bootstrap:"
GROUP: Final = "system:bootstrappers"
NODE_GROUP: Final = "system:bootstrappers:kubeadm:default-node-token"
INFO_NAMESPACE, INFO_NAME, INFO_KEY = "kube-public", "cluster-info", "kubeconfig"
SIGNATURE_PREFIX: Final = "jws-kubeconfig-"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_PIN = re.compile(r"sha256:[0-9a-f]{64}")
_GROUPS = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
_ALPHABET = string.ascii_lowercase + string.digits
Object = dict[str, Any]


class TokenError(Exception):
    """A text that is no token; it never repeats the secret half."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bootstrap token."""

    id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}"


@dataclass(frozen=True, slots=True)
class JoinString:
    """What a new machine is given: a token, and the pin that tells the right server from a wrong one."""

    token: Token
    pin: str

    def __str__(self) -> str:
        return f"{self.token}@{self.pin}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A token as its Secret tells it."""

    token: Token
    expires: datetime | None = None
    description: str = ""
    groups: tuple[str, ...] = ()
    authenticates: bool = False
    signs: bool = False

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now


def new() -> Token:
    """A fresh token."""
    return Token(*("".join(secrets.choice(_ALPHABET) for _ in range(length)) for length in (6, 16)))


def parse(text: str) -> Token:
    """The token of a text `abcdef.0123456789abcdef`; TokenError when it has another form."""
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        raise TokenError("a token has the form abcdef.0123456789abcdef: 6 and 16 lower-case letters or digits")
    return Token(found[1], found[2])


def parse_join(text: str) -> JoinString:
    """The join string of a text; TokenError names the half that is wrong."""
    token, sign, pin = text.strip().partition("@")
    if not sign:
        raise TokenError(
            "the token does not name the cluster's CA (abcdef.0123456789abcdef@sha256:...): without it the server "
            "could be anybody; `nodeagent token create` on the server prints the whole of it"
        )
    if not _PIN.fullmatch(pin):
        raise TokenError("what follows the @ is no CA hash: want sha256: and 64 hexadecimal digits")
    return JoinString(parse(token), pin)


def secret(
    token: Token, *, expires: datetime | None, description: str = "", groups: Sequence[str] = (NODE_GROUP,)
) -> Object:
    """The Secret that makes a token good."""
    texts = {
        "token-id": token.id,
        "token-secret": token.secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": ",".join(groups),
        "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ") if expires else "",
        "description": description,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET_PREFIX + token.id, "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items() if text},
    }


def of_secret(obj: Mapping[str, Any]) -> Kept | None:
    """The token of a Secret; None for a Secret that is none or is malformed, which makes nothing good."""
    if obj.get("type") != SECRET_TYPE:
        return None
    try:
        texts = {key: base64.b64decode(value).decode() for key, value in (obj.get("data") or {}).items()}
        token = Token(texts["token-id"], texts["token-secret"])
        if obj["metadata"]["name"] != SECRET_PREFIX + token.id or not _TOKEN.fullmatch(str(token)):
            return None
        groups = tuple(filter(None, (each.strip() for each in texts.get("auth-extra-groups", "").split(","))))
        if not all(_GROUPS.fullmatch(each) for each in groups):
            return None
        end = texts.get("expiration")
        return Kept(
            token=token,
            expires=datetime.fromisoformat(end) if end else None,
            description=texts.get("description", ""),
            groups=groups,
            authenticates=texts.get("usage-bootstrap-authentication") == "true",
            signs=texts.get("usage-bootstrap-signing") == "true",
        )
    except (KeyError, ValueError, binascii.Error):
        return None

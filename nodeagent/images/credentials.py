"""Registry credentials: what docker configurations say, and which of them fit an image. PURE.

It must not know where a configuration comes from (pull secrets, files), and never shows a password.
"""

import base64
import binascii
import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

CONFIG_KEY: Final = ".dockerconfigjson"
LEGACY_KEY: Final = ".dockercfg"
DEFAULT_REGISTRY: Final = "index.docker.io"
DEFAULT_NAMES: Final = ("docker.io", "registry-1.docker.io", "index.docker.io")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A login for the registries and paths `pattern` names: `host[:port][/path]`, where the host may hold `*`."""

    pattern: str
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    identity_token: str = dataclasses.field(default="", repr=False)


def of_secret(data: Mapping[str, bytes]) -> list[Credential]:
    """The credentials of a pull secret's data; ValueError says what is wrong without showing it."""
    for key in (CONFIG_KEY, LEGACY_KEY):
        if key in data:
            return of_config(data[key], legacy=key == LEGACY_KEY)
    raise ValueError(f"neither {CONFIG_KEY} nor {LEGACY_KEY} is in it")


def of_config(text: bytes, *, legacy: bool = False) -> list[Credential]:
    """The credentials of a docker configuration; the legacy form has no `auths` around them."""
    try:
        document = json.loads(text)
    except ValueError as e:
        raise ValueError("it is not JSON") from e
    auths = document if legacy else document.get("auths", {}) if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise ValueError("auths is not a mapping")
    return [credential(pattern, entry) for pattern, entry in auths.items() if isinstance(entry, dict)]


def credential(pattern: str, entry: Mapping[str, Any]) -> Credential:
    """One entry: `auth` (base64 of user:password) wins over the two apart."""
    username, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        try:
            plain = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as e:
            raise ValueError(f"auth of {pattern} is not base64") from e
        username, _, password = plain.partition(":")
    token = str(entry.get("identitytoken", ""))
    return Credential(pattern=normal(pattern), username=username, password=password, identity_token=token)


def normal(pattern: str) -> str:
    """A registry without scheme, version path and trailing slash."""
    bare = pattern.split("://", 1)[-1].rstrip("/")
    for suffix in ("/v1", "/v2"):
        bare = bare.removesuffix(suffix)
    return bare


def fitting(image: str, known: Iterable[Credential]) -> list[Credential]:
    """The credentials to try for an image, the most specific pattern first."""
    host, path = split(image)
    found = [each for each in known if matches(each.pattern, host, path)]
    return sorted(found, key=lambda each: each.pattern, reverse=True)


def split(image: str) -> tuple[str, str]:
    """(registry, repository) of an image name."""
    first, slash, rest = image.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if has_host else (DEFAULT_REGISTRY, image)
    path = path.split("@", 1)[0]
    head, _, last = path.rpartition("/")
    path = f"{head}/{last.split(':', 1)[0]}" if head else last.split(":", 1)[0]
    return (DEFAULT_REGISTRY if host in DEFAULT_NAMES else host), path


def matches(pattern: str, host: str, path: str) -> bool:
    """Whether a pattern covers a repository: same number of host labels, same port, and a prefix of its path."""
    where, _, prefix = pattern.partition("/")
    name, _, port = where.partition(":")
    own_name, _, own_port = host.partition(":")
    if name in DEFAULT_NAMES:
        name = DEFAULT_REGISTRY
    labels, own = name.split("."), own_name.split(".")
    if port != own_port or len(labels) != len(own):
        return False
    if not all(fnmatch.fnmatchcase(mine, label) for mine, label in zip(own, labels, strict=True)):
        return False
    return not prefix or path == prefix or path.startswith(prefix + "/")

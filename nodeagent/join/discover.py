"""The first contact: what a server says of its cluster before it is trusted, and whether it may be.

Sends nothing secret. What it learns is believed only when its CA has the pin the token names.
"""

import asyncio
import base64
import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import yaml

from kube import bootstraptoken, pki
from nodeagent.join.errors import JoinError

PATH: Final = f"/api/v1/namespaces/{bootstraptoken.INFO_NAMESPACE}/configmaps/{bootstraptoken.INFO_NAME}"
SECONDS: Final = 10.0
MAX_BYTES: Final = 1 << 20
MAX_SKEW: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A server that proved to be of the right cluster."""

    server: str
    ca_pem: bytes
    skew: float
    """Seconds the server's clock is ahead of ours, by its Date header."""


async def find(servers: tuple[str, ...], pin: str) -> Found:
    """The first server that answers and is of the cluster of this pin; JoinError with every reason when none is."""
    reasons = []
    for server in servers:
        try:
            body, skew = await asyncio.to_thread(ask, server)
            return Found(server=server, ca_pem=trusted(body, pin, server=server), skew=skew)
        except JoinError as e:
            reasons.append(str(e))
    raise JoinError("; ".join(reasons))


def check(url: str) -> str:
    """A server's URL without its last slash; JoinError for what is none."""
    found = urllib.parse.urlsplit(url if "://" in url else f"https://{url}")
    try:
        good = found.scheme == "https" and found.hostname and found.path in ("", "/") and not found.query
        port = found.port or 6443
    except ValueError:
        good, port = None, 0
    if not good:
        raise JoinError(f"--server: {url!r}: want https://HOST:PORT")
    host = f"[{found.hostname}]" if ":" in str(found.hostname) else found.hostname
    return f"https://{host}:{port}"


def ask(server: str) -> tuple[bytes, float]:
    """What a server not trusted yet says of its cluster, and its clock's lead. JoinError when it says nothing."""
    found = urllib.parse.urlsplit(server)
    # Whoever answers is checked by `trusted`; until then nothing but this question is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(str(found.hostname), found.port, timeout=SECONDS, context=context)
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        body = answer.read(MAX_BYTES)
    except (OSError, http.client.HTTPException) as e:
        raise JoinError(
            f"{server} cannot be reached: {e or type(e).__name__}: is the address right, does the server run, and does "
            "a firewall let port 6443 through?"
        ) from e
    finally:
        connection.close()
    if answer.status != 200:
        raise JoinError(f"{server} answers {answer.status} where a cluster describes itself ({PATH}): is it one?")
    return body, lead(answer.getheader("Date"), datetime.now(UTC))


def lead(date: str | None, now: datetime) -> float:
    """Seconds a Date header is ahead of our clock; 0 without one."""
    try:
        return (parsedate_to_datetime(date) - now).total_seconds() if date else 0.0
    except ValueError:
        return 0.0


def trusted(body: bytes, pin: str, *, server: str) -> bytes:
    """The CA in a cluster's description, if it is the one of the pin; JoinError when it is not."""
    try:
        text = json.loads(body)["data"][bootstraptoken.INFO_KEY]
        cluster = yaml.safe_load(text)["clusters"][0]["cluster"]
        ca = base64.b64decode(cluster["certificate-authority-data"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as e:
        raise JoinError(f"{server} describes its cluster in a way nobody understands: {e}") from e
    if not pki.pinned(ca, pin):
        raise JoinError(
            f"{server} is not of the cluster this token was made for: its CA is not {pin}. Somebody may stand between "
            "here and the server, or the token is another cluster's. Nothing secret was sent."
        )
    return ca


def skew_problem(skew: float) -> str | None:
    """What is wrong with the clocks; None when they agree well enough for certificates."""
    if abs(skew) <= MAX_SKEW:
        return None
    way = "behind" if skew > 0 else "ahead of"
    return (
        f"this machine's clock is {abs(skew):.0f} s {way} the server's: certificates would not be valid here. Set it "
        "(timedatectl set-ntp true, or chronyd -q), then join again"
    )

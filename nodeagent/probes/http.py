"""HTTP probes: one GET over a plain connection, redirects included.

Owns the little of HTTP that a probe needs: no client library, because a node makes thousands of these.
Must not know pods or thresholds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import urllib.parse
from collections.abc import Sequence

from nodeagent.probes.plan import Outcome

USER_AGENT = "kube-probe/1.36"
_MAX_REDIRECTS = 10
_MAX_HEAD = 64 * 1024
_MAX_BODY = 10 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to ask."""

    scheme: str
    host: str
    port: int
    path: str = "/"
    headers: Sequence[tuple[str, str]] = ()
    user_agent: str = USER_AGENT

    @property
    def url(self) -> str:
        """As shown in messages."""
        return f"{self.scheme.lower()}://{_bracketed(self.host)}:{self.port}{self.path}"


def context() -> ssl.SSLContext:
    """TLS as probes speak it: certificates of pods are not verified."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


async def probe(target: Target, *, timeout: float, tls: ssl.SSLContext) -> Outcome:
    """Ask once, following redirects on the same host. `timeout` in seconds is for all of it."""
    asked = target
    try:
        async with asyncio.timeout(timeout):
            for _ in range(_MAX_REDIRECTS + 1):
                status, location, body = await get(asked, tls=tls)
                if not (300 <= status < 400 and location):
                    return _judged(status, body)
                following = _redirected(asked, location)
                if following is None or following.host != target.host:
                    return Outcome(True, f"Probe terminated redirects, Response body: {body}", warning=True)
                asked = following
    except TimeoutError:
        reason = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return Outcome(False, f'Get "{asked.url}": {reason}')
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as e:
        return Outcome(False, f'Get "{asked.url}": {explain(e, asked.host, asked.port)}')
    return Outcome(False, f'Get "{asked.url}": stopped after {_MAX_REDIRECTS} redirects')


def explain(error: Exception, host: str, port: int) -> str:
    """Say what went wrong on a connection, in the words users know from upstream."""
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {_bracketed(host)}:{port}: connect: connection refused"
    if isinstance(error, asyncio.IncompleteReadError):
        return "EOF"
    if isinstance(error, OSError) and error.strerror:
        return f"dial tcp {_bracketed(host)}:{port}: {error.strerror.lower()}"
    return str(error) or type(error).__name__


def _judged(status: int, body: str) -> Outcome:
    if 200 <= status < 400:
        return Outcome(True, body)
    return Outcome(False, f"HTTP probe failed with statuscode: {status}")


def _redirected(target: Target, location: str) -> Target | None:
    found = urllib.parse.urlsplit(urllib.parse.urljoin(target.url, location))
    if found.scheme not in ("http", "https") or not found.hostname:
        return None
    port = found.port or (443 if found.scheme == "https" else 80)
    path = (found.path or "/") + (f"?{found.query}" if found.query else "")
    return dataclasses.replace(target, scheme=found.scheme, host=found.hostname, port=port, path=path)


async def get(target: Target, *, tls: ssl.SSLContext) -> tuple[int, str, str]:
    """Ask once: status, where it redirects to, the beginning of the body. The caller sets the deadline.

    Raises OSError, ValueError and the errors of asyncio's streams.
    """
    secure = target.scheme.lower() == "https"
    reader, writer = await asyncio.open_connection(
        target.host,
        target.port,
        ssl=tls if secure else None,
        server_hostname=target.host if secure else None,
        limit=_MAX_HEAD,
    )
    try:
        writer.write(_request(target))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        status = head[0].split(" ")[1:2]
        if not head[0].startswith("HTTP/1.") or not status or not status[0].isdigit():
            raise ValueError(f"malformed HTTP response {head[0][:100]!r}")
        body = b""
        if fields.get("content-length", "0") != "0":
            body = await reader.read(_MAX_BODY)
        return int(status[0]), fields.get("location", ""), body.decode(errors="replace")
    finally:
        # Nothing waits for the goodbye: the answer is known, and the pod may be slow to close.
        writer.transport.abort()


def _request(target: Target) -> bytes:
    given = {name.lower(): value for name, value in target.headers}
    host = given.get("host") or (
        _bracketed(target.host) if target.port in (80, 443) else f"{_bracketed(target.host)}:{target.port}"
    )
    lines = [f"GET {target.path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if "user-agent" not in given:
        lines.append(f"User-Agent: {target.user_agent}")
    if "accept" not in given:
        lines.append("Accept: */*")
    lines += [f"{name}: {value}" for name, value in target.headers if name.lower() != "host" and value]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1:
        raise ValueError("a header or the path holds a line break")
    return f"{text}\r\n\r\n".encode("latin-1")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

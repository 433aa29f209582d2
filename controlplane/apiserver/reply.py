"""Answers on the wire: bodies, headers, compression. Owns how a reply is sent; knows nothing of what it says."""

import asyncio
import contextlib
import gzip
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import yaml

from controlplane.apiserver import negotiate
from controlplane.apiserver.request import Request
from kube import protobuf, status

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
Headers = list[tuple[bytes, bytes]]
GZIP_ABOVE = 128 * 1024
JSON = b"application/json"


class Answer(Protocol):
    """What a handler returns: something that can be sent."""

    async def send(self, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
        """Send it; `headers` come from the frame and go out with the head."""


@dataclass(slots=True)
class Reply:
    """A whole reply in memory."""

    body: bytes
    code: int = 200
    content_type: bytes = JSON
    extra: Sequence[tuple[bytes, bytes]] = ()

    async def send(self, request: Request, receive: Receive, send: Send, headers: Headers) -> None:
        """Send it, compressed when it is large and the client reads gzip."""
        body, content_type = self.body, self.content_type
        if content_type == JSON and negotiate.only_binary(request.headers.get("accept", "")):
            body, content_type = in_protobuf(body)
        headers += [(b"content-type", content_type), *self.extra]
        if len(body) > GZIP_ABOVE and "gzip" in request.headers.get("accept-encoding", ""):
            # In a thread: zlib lets others run, and a large list takes tens of milliseconds.
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": self.code, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def of_object(obj: Any, *, code: int = 200) -> Reply:
    """A reply from plain values."""
    return Reply(orjson.dumps(obj), code)


def of_error(error: status.ApiError) -> Reply:
    """The Status body of a failure."""
    extra = [(b"retry-after", str(error.retry_after).encode())] if error.retry_after else []
    return Reply(orjson.dumps(error.status), error.code, extra=extra)


def in_media(reply: Reply, form: negotiate.Form) -> Reply:
    """The same reply as YAML if that was asked for."""
    if form.media != negotiate.YAML:
        return reply
    text = yaml.dump(orjson.loads(reply.body), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=True)
    return Reply(text.encode(), reply.code, b"application/yaml", reply.extra)


def in_protobuf(body: bytes) -> tuple[bytes, bytes]:
    """A JSON body as protobuf with its content type; as it is when its kind has no protobuf form."""
    obj = orjson.loads(body)
    if isinstance(obj, dict) and protobuf.encodable(obj.get("apiVersion", ""), obj.get("kind", "")):
        with contextlib.suppress(protobuf.Unencodable):
            return protobuf.encode(obj), protobuf.CONTENT_TYPE.encode()
    return body, JSON


def warning_headers(warnings: Sequence[str]) -> Headers:
    """`Warning: 299 - "text"`, which kubectl shows."""
    found = []
    for text in dict.fromkeys(warnings):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        found.append((b"warning", f'299 - "{quoted}"'.encode("latin-1", "replace")))
    return found

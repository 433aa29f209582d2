"""Header blocks of SPDY/3.1: the compression dictionary and the two zlib contexts of a session.

Owns the encoding of headers only. Must not know frames or streams.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from kube.streams.errors import SpdyError

MAX_HEADERS = 1000
MAX_BLOCK = 1 << 20
"""Most bytes a decompressed block may have: a bound against blocks that inflate without end."""

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _counted(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


DICTIONARY = b"".join(_counted(word.replace("_", " ")) for word in _WORDS.split(" ")) + _TAIL.encode()
"""The preset dictionary every SPDY/3 peer starts its zlib contexts with."""


class Encoder:
    """The outgoing half: one zlib stream for the whole session."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """Compress one block. Names are sent in lower case; several values of one name are joined with NUL."""
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode("latin-1"), value.encode("latin-1")):
                parts += (struct.pack(">I", len(text)), text)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class Decoder:
    """The incoming half. Every block must pass through it, also those of refused streams."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def decode(self, block: bytes) -> dict[str, str]:
        """Decompress one block into lower-case names and values. Raises SpdyError."""
        try:
            plain = self._zlib.decompress(block, MAX_BLOCK)
        except zlib.error as e:
            raise SpdyError(f"header block does not decompress: {e}") from e
        if self._zlib.unconsumed_tail:
            raise SpdyError(f"header block is larger than {MAX_BLOCK} bytes")
        return _parse(plain) if plain else {}


def _parse(plain: bytes) -> dict[str, str]:
    if len(plain) < 4:
        raise SpdyError("header block is cut short")
    (count,) = struct.unpack_from(">I", plain)
    if count > MAX_HEADERS:
        raise SpdyError(f"header block has {count} headers, more than {MAX_HEADERS}")
    position, texts = 4, []
    for _ in range(2 * count):
        if position + 4 > len(plain):
            raise SpdyError("header block is cut short")
        (size,) = struct.unpack_from(">I", plain, position)
        position += 4 + size
        if position > len(plain):
            raise SpdyError("header block is cut short")
        texts.append(plain[position - size : position].decode("latin-1"))
    return {name.lower(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}

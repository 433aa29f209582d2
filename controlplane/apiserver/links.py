"""Links in what a pod or Service answers, made to lead through the proxy path it was reached by. PURE.

Owns which links are meant: absolute paths, and URLs of the backend itself. Follows upstream's proxy transport.
"""

from __future__ import annotations

import re
from html import escape, unescape
from urllib.parse import urlsplit, urlunsplit

_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_ATTRIBUTE = re.compile(
    r"""(\s(?:action|background|cite|codebase|data|href|src|usemap)\s*=\s*)("[^"]*"|'[^']*')""", re.I
)


def lead_through(url: str, *, prefix: str, backend: str) -> str:
    """One link behind `prefix`, the proxy's path without a slash at its end; relative and foreign ones stay."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    foreign = parts.netloc not in ("", backend)
    if foreign or not parts.path.startswith("/") or parts.path.startswith(prefix + "/"):
        return url
    return urlunsplit(("", "", prefix + parts.path, parts.query, parts.fragment))


def page(text: str, *, prefix: str, backend: str) -> str:
    """A page of HTML with every link in a tag led through."""

    def attribute(found: re.Match[str]) -> str:
        quote, value = found[2][0], unescape(found[2][1:-1])
        led = lead_through(value, prefix=prefix, backend=backend)
        return found[0] if led == value else f"{found[1]}{quote}{escape(led)}{quote}"

    return _TAG.sub(lambda tag: _ATTRIBUTE.sub(attribute, tag[0]), text)

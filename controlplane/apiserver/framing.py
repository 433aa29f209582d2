"""How the changes of a watch stand on the wire: JSON lines, or protobuf frames for a client that reads nothing else.

Owns the two framings. JSON lines are made once for all watchers; protobuf frames are made for each of its few watchers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from controlplane.apiserver import negotiate
from controlplane.store import entries
from kube import protobuf


@dataclass(frozen=True, slots=True)
class Framing:
    """`frame` puts the kind of a change and its object's JSON on the wire."""

    frame: Callable[[str, bytes], bytes]
    content_type: bytes


def _in_protobuf(kind: str, data: bytes) -> bytes:
    return protobuf.watch_frame(kind, orjson.loads(data))


LINES = Framing(entries.frame, b"application/json")
FRAMES = Framing(_in_protobuf, b"application/vnd.kubernetes.protobuf;stream=watch")


def of_form(form: negotiate.Form) -> Framing:
    """The framing of a form."""
    return FRAMES if form.media == negotiate.PROTOBUF else LINES

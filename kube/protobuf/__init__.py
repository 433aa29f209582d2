"""Kubernetes' protobuf form: plain values as JSON has them, read from it and written to it.

Owns the wire format, the table of messages (`fields.txt`, built by `python -m kube.protobuf.build`) and Kubernetes'
envelope. Must not know HTTP or any kind's rules.
"""

from kube.protobuf.decode import decode
from kube.protobuf.encode import CONTENT_TYPE, Unencodable, encodable, encode, watch_frame
from kube.protobuf.wire import Malformed

__all__ = ["CONTENT_TYPE", "Malformed", "Unencodable", "decode", "encodable", "encode", "watch_frame"]

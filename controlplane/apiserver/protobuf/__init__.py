"""Request bodies in Kubernetes' protobuf: read into the plain values that JSON would have given. Knows no kind's rules."""

from controlplane.apiserver.protobuf.decode import Malformed, decode

__all__ = ["Malformed", "decode"]

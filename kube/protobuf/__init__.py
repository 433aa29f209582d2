"""Kubernetes' protobuf form: read into the plain values that JSON would have given. Knows no kind's rules."""

from kube.protobuf.decode import Malformed, decode

__all__ = ["Malformed", "decode"]

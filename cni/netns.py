"""Stepping into a network namespace with the calling thread, and out again.

Owns setns. A thread that cannot come back ends the process: it would act in a pod's network for ever.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cni import errors

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def open_path(path: str) -> int:
    """A descriptor of the namespace at `path`. Raises CniError 3 when there is none (nothing to clean up)."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.CniError(
            errors.UNKNOWN_CONTAINER, f"cannot open network namespace {path}", details=str(error)
        ) from error


@contextmanager
def entered(descriptor: int) -> Iterator[None]:
    """Runs the block with the calling thread inside the namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _setns(descriptor)
        except OSError as error:
            raise errors.CniError(
                errors.UNKNOWN_CONTAINER, "cannot enter the network namespace", details=str(error)
            ) from error
        try:
            yield
        finally:
            try:
                _setns(home)
            except OSError:
                os.abort()
    finally:
        os.close(home)

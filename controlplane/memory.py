"""How the C library's allocator treats the large blocks of this process. Knows nothing of what they hold.

A large list is joined, encrypted and sent as blocks of a megabyte and more. By default glibc gives such blocks back to
the kernel after each answer, and the page faults of getting them again cost more than the answer itself.
"""

import contextlib
import ctypes

# malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 8 << 20


def keep_large_blocks() -> bool:
    """Keep freed blocks up to KEPT_BYTES for the next answer; False where the C library cannot."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(option, KEPT_BYTES) == 1 for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
    return False

"""The allocator's settings are accepted by the C library they are meant for."""

import platform
import subprocess
import sys

SCRIPT = "import sys; from controlplane import memory; sys.exit(not memory.keep_large_blocks())"


def test_glibc_takes_the_settings_and_another_library_is_left_alone() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], check=False, timeout=30)
    assert (answer.returncode == 0) == (platform.libc_ver()[0] == "glibc")

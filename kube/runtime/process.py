"""Child processes: fixed program, argument list, no shell, a small environment, a deadline. Knows no program."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


class ProcessError(Exception):
    """A child process failed, could not be started, or overran its deadline (returncode None in the last two)."""

    def __init__(self, argv: Sequence[str], returncode: int | None, stderr: str) -> None:
        self.argv, self.returncode, self.stderr = tuple(argv), returncode, stderr
        ending = "did not finish" if returncode is None else f"exit {returncode}"
        super().__init__(f"{argv[0]}: {ending}: {stderr.strip()[-2000:] or 'no message'}")


async def run(
    argv: Sequence[str], *, stdin: bytes = b"", timeout: float, env: Mapping[str, str] | None = None
) -> bytes:
    """Standard output of a program that ended with 0; ProcessError otherwise. On cancellation it is killed."""
    if not argv or not os.path.isabs(argv[0]):
        raise ValueError(f"a program needs an absolute path: {list(argv)!r}")
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(_ENVIRONMENT if env is None else env),
            start_new_session=True,
        )
    except OSError as error:
        raise ProcessError(argv, None, f"cannot be started: {error.strerror or error}") from error
    return await _finish(argv, child, stdin=stdin, timeout=timeout)


async def _finish(argv: Sequence[str], child: asyncio.subprocess.Process, *, stdin: bytes, timeout: float) -> bytes:
    try:
        async with asyncio.timeout(timeout):
            out, err = await child.communicate(stdin or None)
    except TimeoutError:
        raise ProcessError(argv, None, f"no end within {timeout:g} s, killed") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if child.returncode:
        raise ProcessError(argv, child.returncode, err.decode("utf-8", "replace"))
    return out

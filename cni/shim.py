"""The executable that the container runtime starts: hands environment and standard input to the daemon's socket.

It imports only `_socket` and `posix`, because it starts twice a pod and imports cost more than the work. `install.py`
copies this file and fills in the first three names. Without a socket it does the work in a process of its own. With one
that does not answer: ADD says "try again later" (code 11: the daemon could not promise the pod's policy), DEL and the
other verbs work in a process of their own, under the store's lock.
"""

import _socket
import posix

SOCKET = ""
PYTHON = ""
TIMEOUT_SECONDS = 100.0
UNREACHABLE = b'{"cniVersion":"1.0.0","code":11,"msg":"the node agent does not answer","details":"is it running?"}'


def read_all() -> bytes:
    """Standard input to its end."""
    parts = []
    while part := posix.read(0, 65536):
        parts.append(part)
    return b"".join(parts)


def framed(data: bytes) -> bytes:
    """Four bytes of length, big-endian, and the data."""
    return len(data).to_bytes(4, "big") + data


def by_daemon(variables: bytes, stdin: bytes) -> bytes:
    """The daemon's answer: one byte of exit code, then standard output. Raises OSError."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_SECONDS)
    connection.connect(SOCKET)
    connection.sendall(framed(variables) + framed(stdin))
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    if not parts:
        raise OSError("the daemon closed the connection")
    return b"".join(parts)


def by_process(stdin: bytes) -> None:
    """Becomes a process that does the work itself."""
    descriptor = posix.memfd_create("cni-stdin")
    posix.write(descriptor, stdin)
    posix.lseek(descriptor, 0, 0)
    posix.dup2(descriptor, 0)
    posix.execv(PYTHON, [PYTHON, "-I", "-m", "cni", "plugin"])


def main() -> None:
    """One invocation."""
    stdin = read_all()
    command = posix.environ.get(b"CNI_COMMAND", b"")
    if not SOCKET or command == b"VERSION":
        by_process(stdin)
    variables = b"\0".join(k + b"=" + v for k, v in posix.environ.items() if k.startswith(b"CNI_"))
    try:
        answer = by_daemon(variables, stdin)
    except OSError:
        if command != b"ADD":
            by_process(stdin)
        answer = b"\x01" + UNREACHABLE
    posix.write(1, answer[1:])
    posix._exit(answer[0])


if __name__ == "__main__":
    main()

"""Puts the plugin where the runtime looks for it: the shim with its interpreter and the daemon's socket filled in."""

import sys
from pathlib import Path

from cni import loopback
from cni.config import CNIConfiguration
from kube.runtime import files

PLUGIN = "nodeagent-cni"
# In the text of our executable, and of no other.
MARK = b"the node agent does not answer"


def render(source: str, *, start: str, python: str, socket: str) -> str:
    """The executable's text; `start` is the bare interpreter, `python` the one that finds this package. PURE."""
    filled = source.replace('SOCKET = ""', f"SOCKET = {socket!r}", 1).replace('PYTHON = ""', f"PYTHON = {python!r}", 1)
    return f"#!{start} -IS\n{filled}"


def plugin(config: CNIConfiguration) -> Path:
    """Writes the executable, replacing an older one in one step; returns its path.

    `loopback`, which containerd before 2.0 insists on, is the same one; another's of that name stays.
    """
    source = (Path(__file__).parent / "shim.py").read_text()
    text = render(source, start=_bare(), python=sys.executable, socket=config.socket).encode()
    target = Path(config.bin_dir) / PLUGIN
    _write(target, text)
    other = Path(config.bin_dir) / loopback.TYPE
    if not other.exists() or MARK in other.read_bytes():
        _write(other, text)
    return target


def _bare() -> str:
    """An interpreter of our version that starts fast: the distribution's, else ours without its virtual environment."""
    built = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    return str(built if built.exists() else Path(sys.executable).resolve())


def _write(target: Path, text: bytes) -> None:
    if not target.exists() or target.read_bytes() != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.replace(target, text, mode=0o755)

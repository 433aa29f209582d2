"""Puts the plugin where the runtime looks for it: the shim with its interpreter and the daemon's socket filled in."""

import sys
from pathlib import Path

from cni.config import CNIConfiguration
from kube.runtime import files

PLUGIN = "nodeagent-cni"


def render(source: str, *, python: str, socket: str) -> str:
    """The executable's text. PURE."""
    filled = source.replace('SOCKET = ""', f"SOCKET = {socket!r}", 1).replace('PYTHON = ""', f"PYTHON = {python!r}", 1)
    return f"#!{python} -IS\n{filled}"


def plugin(config: CNIConfiguration) -> Path:
    """Writes the executable, replacing an older one in one step; returns its path."""
    source = (Path(__file__).parent / "shim.py").read_text()
    target = Path(config.bin_dir) / PLUGIN
    text = render(source, python=sys.executable, socket=config.socket).encode()
    if not target.exists() or target.read_bytes() != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.replace(target, text, mode=0o755)
    return target

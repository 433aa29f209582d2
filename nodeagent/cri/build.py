"""Regenerates nodeagent/cri/v1/*_pb2* from cri.proto: `python -m nodeagent.cri.build`. For development only."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

PROTO = Path("nodeagent/cri/v1/cri.proto")


def generate(source_root: Path, target_root: Path) -> None:
    """Runs protoc from `source_root`, so that the generated imports read `nodeagent.cri.v1`, into `target_root`."""
    protoc: Any = importlib.import_module("grpc_tools.protoc")
    arguments = [
        f"-I{source_root}",
        *(f"--{kind}={target_root}" for kind in ("python_out", "grpc_python_out", "pyi_out")),
    ]
    code = protoc.main(["protoc", *arguments, str(source_root / PROTO)])
    if code:
        raise SystemExit(code)


def main() -> None:
    """Writes the generated files beside their source."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    root = Path(__file__).resolve().parents[2]
    generate(root, root)
    sys.stdout.write(f"regenerated beside {PROTO}\n")


if __name__ == "__main__":
    main()

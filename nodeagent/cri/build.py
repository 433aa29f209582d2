"""Regenerates the *_pb2* beside each .proto of ours: `python -m nodeagent.cri.build`. For development only."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

PROTOS = {
    Path("nodeagent/cri/v1/cri.proto"): ("python_out", "grpc_python_out", "pyi_out"),
    Path("nodeagent/devices/v1beta1/devices.proto"): ("python_out", "pyi_out"),
}
"""What is generated from each: messages, their types, and for the many calls of CRI also the stubs."""


def generate(source_root: Path, target_root: Path) -> None:
    """Runs protoc from `source_root`, so that the generated imports read `nodeagent.cri.v1`, into `target_root`."""
    protoc: Any = importlib.import_module("grpc_tools.protoc")
    for proto, kinds in PROTOS.items():
        arguments = [f"-I{source_root}", *(f"--{kind}={target_root}" for kind in kinds)]
        code = protoc.main(["protoc", *arguments, str(source_root / proto)])
        if code:
            raise SystemExit(code)


def main() -> None:
    """Writes the generated files beside their source."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    root = Path(__file__).resolve().parents[2]
    generate(root, root)
    sys.stdout.write(f"regenerated beside {', '.join(map(str, PROTOS))}\n")


if __name__ == "__main__":
    main()

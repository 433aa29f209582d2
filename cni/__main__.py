"""`python -m cni`: the package's commands alone, without the rest of nodeagent."""

import argparse
import sys

import cni


def main() -> int:
    """Parses and runs one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="cni", description="nodeagent's CNI plugin")
    cni.register(parser.add_subparsers(dest="command", required=True))
    argv = sys.argv[1:]
    arguments = parser.parse_args(argv if argv[:1] in (["cni"], ["policy"]) else ["cni", *argv])
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())

"""The `nodeagent` command: every package's commands under one name."""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Parses and runs one command; returns its exit code: 0 fine, 1 failed, 2 usage."""
    from nodeagent import bundle, errors

    parser = argparse.ArgumentParser(prog="nodeagent", description="A Kubernetes worker node in readable Python")
    parser.add_argument("--version", action="version", version=f"nodeagent {bundle.VERSION}")
    bundle.register(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    words = sys.argv[1:] if argv is None else argv
    # The arrow of `trace A -> B` looks like an option; it only separates.
    arguments = parser.parse_args([word for word in words if word != "->"])
    try:
        return int(arguments.run(arguments) or 0)
    except errors.NodeagentError as e:
        sys.stderr.write(f"nodeagent: {e}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

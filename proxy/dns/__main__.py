"""`python -m proxy.dns`: the DNS server of a node."""

import argparse
import sys

from proxy import dns


def main() -> int:
    """Parses the flags of `dns` and runs it."""
    parser = argparse.ArgumentParser(prog="proxy.dns", description="nodeagent's cluster DNS server")
    dns.register(parser.add_subparsers(dest="command", required=True))
    arguments = parser.parse_args(["dns", *sys.argv[1:]])
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m nodeagent.lab`: the lab's commands on their own. Owns nothing but the parser."""

import argparse
import sys

from nodeagent.cli import lab


def main() -> int:
    """Run `lab` with this process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m nodeagent")
    lab.register(parser.add_subparsers(required=True))
    args = parser.parse_args(["lab", *sys.argv[1:]])
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())

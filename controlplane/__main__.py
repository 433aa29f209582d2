"""`python -m controlplane --config PATH`: the server process alone."""

import argparse
import sys
from pathlib import Path

import controlplane


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="controlplane", description="The control plane of a cluster in one process.")
    controlplane.arguments(parser)
    return serve(parser.parse_args().config)


def serve(path: str) -> int:
    """Serve by the configuration at `path`; 1 with one line on standard error when that cannot be."""
    from controlplane import config, errors, server
    from kube.runtime import log

    try:
        settings = config.load(Path(path))
        log.setup(settings.raw.log_level)
        server.run(settings)
    except (errors.ControlPlaneError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

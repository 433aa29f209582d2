"""`python -m controlplane --config PATH`: the server process alone."""

import argparse
import sys
from pathlib import Path

import controlplane


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="controlplane", description="The control plane of a cluster in one process.")
    controlplane.arguments(parser)
    return serve(parser.parse_args())


def serve(options: argparse.Namespace) -> int:
    """Serve as the flags say; 1 with one line on standard error when that cannot be."""
    from controlplane import alone, config, errors, server
    from kube.runtime import log

    chosen = options.only or controlplane.PARTS
    parts = [name for name in controlplane.PARTS[1:] if name in chosen]
    try:
        settings = config.load(Path(options.config))
        log.setup(settings.raw.log_level)
        if controlplane.PARTS[0] in chosen:
            server.run(settings, parts=parts)
        else:
            alone.run(settings, only=parts, path=Path(options.kubeconfig))
    except (errors.ControlPlaneError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

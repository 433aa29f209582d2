"""The commands a person types: what they print and how they fail. The work itself is done elsewhere.

`register` adds them to a parser without importing what they need.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def register(subparsers: "Subparsers") -> None:
    """Add `lab` and `image`. Each sets `run(args) -> int`, which imports lazily."""
    from nodeagent.cli import doctor, image, install, lab

    lab.register(subparsers)
    image.register(subparsers)
    install.register(subparsers)
    doctor.register(subparsers)

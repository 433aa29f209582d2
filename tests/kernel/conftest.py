"""Throw-away network namespaces: kernel tests change nothing outside them."""

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest

from cni import netns


@pytest.fixture
def new_namespace() -> Iterator[Callable[[str], str]]:
    """Makes a namespace by a short name and returns its path; all of them are removed at the end."""
    made: list[str] = []

    def make(role: str) -> str:
        name = f"natest-{secrets.token_hex(3)}-{role}"
        subprocess.run(["ip", "netns", "add", name], check=True, timeout=10)
        made.append(name)
        return f"/run/netns/{name}"

    yield make
    for name in made:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=10)


@pytest.fixture
def inside_host(new_namespace: Callable[[str], str]) -> Iterator[str]:
    """Runs the test with its thread in a fresh namespace that plays the host; yields its path."""
    path = new_namespace("host")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with netns.entered(descriptor):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
            yield path
    finally:
        os.close(descriptor)

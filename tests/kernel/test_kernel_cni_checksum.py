"""Checksum offload of a VXLAN device on the real kernel."""

import subprocess

import pytest

from cni.overlay import checksum


def test_the_offload_is_on_until_it_is_turned_off(inside_host: str) -> None:
    argv = "ip link add vx type vxlan id 1 dstport 8472"
    subprocess.run(argv.split(), check=True, timeout=10)
    assert checksum.is_on("vx")
    checksum.turn_off("vx")
    assert not checksum.is_on("vx")


@pytest.mark.parametrize(
    ("release", "wrong"),
    [("5.6.19", True), ("4.19.0-27-amd64", True), ("5.7.0", False), ("6.1.0-18-amd64", False), ("odd", False)],
)
def test_only_kernels_before_5_7_are_wrong(release: str, wrong: bool) -> None:
    assert checksum.is_wrong(release) is wrong

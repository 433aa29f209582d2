"""What is added to the filter table of a host that drops what it forwards."""

import pytest

from cni import forward

DROPS = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER\n-A FORWARD -j DOCKER\n"
OURS = [
    "-A NODEAGENT-FORWARD -s 10.244.1.0/24 -j ACCEPT",
    "-A NODEAGENT-FORWARD -d 10.244.1.0/24 -j ACCEPT",
]


def test_a_dropping_host_gets_one_chain_and_a_jump_in_front() -> None:
    lines = forward.plan(DROPS, cidrs=["10.244.1.0/24"]).splitlines()
    assert lines == ["*filter", ":NODEAGENT-FORWARD - [0:0]", *OURS, "-I FORWARD 1 -j NODEAGENT-FORWARD", "COMMIT"]


def test_what_is_in_place_is_left_alone() -> None:
    listed = "-P FORWARD DROP\n-N NODEAGENT-FORWARD\n-A FORWARD -j NODEAGENT-FORWARD\n" + "\n".join(OURS) + "\n"
    assert forward.plan(listed, cidrs=["10.244.1.0/24"]) == ""


def test_a_jump_that_others_pushed_back_is_moved_to_the_front() -> None:
    listed = DROPS + "-A FORWARD -j NODEAGENT-FORWARD\n" + "\n".join(OURS) + "\n"
    text = forward.plan(listed, cidrs=["10.244.1.0/24"])
    assert text.index("-D FORWARD -j NODEAGENT-FORWARD") < text.index("-I FORWARD 1 -j NODEAGENT-FORWARD")


@pytest.mark.parametrize("listed", ["-P FORWARD ACCEPT\n", ""])
def test_a_host_that_drops_nothing_is_left_alone(listed: str) -> None:
    assert forward.plan(listed, cidrs=["10.244.1.0/24"]) == ""

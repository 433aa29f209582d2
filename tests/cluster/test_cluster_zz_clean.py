"""The very last test: after everything, the host is as it was."""

import census
from harness import Labs


def test_the_whole_run_leaves_nothing_behind(labs: Labs, host_before: census.Census) -> None:
    labs.end()
    assert census.settled_gain(host_before) == {}

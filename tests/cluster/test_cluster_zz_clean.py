"""The very last test: after everything, the host is as it was."""

import census
from harness import Labs


def test_the_whole_run_leaves_nothing_behind(labs: Labs, host_before: census.Census) -> None:
    made = labs.belongings()
    labs.end()
    assert made.left() == []
    # Beside other runs on the same host, what it gains says nothing of this one.
    if not census.strangers():
        assert census.settled_gain(host_before) == {}

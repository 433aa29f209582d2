"""The very last test: after everything, the host is as it was."""

import census

from nodeagent.lab.testing.handle import Keeper


def test_the_whole_run_leaves_nothing_behind(labs: Keeper, host_before: census.Census) -> None:
    made = census.belongings(labs.directory)
    labs.close()
    assert made.left() == []
    # Beside other runs on the same host, what it gains says nothing of this one.
    if not census.strangers():
        assert census.settled_gain(host_before) == {}

"""Cut wires as rules, and the logs of machines: the parts of running a lab that need no machine."""

from pathlib import Path

import pytest

from nodeagent.lab import cuts, errors, journal, state


def test_a_cut_is_one_pair_whichever_way_it_is_named() -> None:
    assert cuts.pair("server", "node-1") == cuts.pair("node-1", "server") == ("node-1", "server")
    with pytest.raises(errors.LabError, match="node-1 cannot be cut off from itself"):
        cuts.pair("node-1", "node-1")


def test_the_rules_drop_frames_between_the_two_ports_both_ways() -> None:
    text = cuts.ruleset([("node-1", "server")])
    assert 'elements = { "to-node-1" . "to-server", "to-server" . "to-node-1" }' in text
    assert text.startswith("table bridge cuts {}\ndelete table bridge cuts\n"), "what was there is replaced"


def test_without_cuts_there_are_no_elements() -> None:
    assert "elements" not in cuts.ruleset([])


def write(directory: Path, machine: str, service: str, text: str) -> None:
    path = directory / "machines" / machine / "data" / "var-log-nodeagent" / f"{service}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_logs_are_found_by_machine_and_service_the_servers_first_and_in_the_order_of_numbers(tmp_path: Path) -> None:
    for machine, service in (("node-10", "agent"), ("node-2", "dns"), ("node-2", "agent"), ("server", "server")):
        write(tmp_path, machine, service, "one\ntwo\nthree\n")
    found = [(log.machine, log.service) for log in journal.files(tmp_path)]
    assert found == [("server", "server"), ("node-2", "agent"), ("node-2", "dns"), ("node-10", "agent")]
    assert [log.service for log in journal.files(tmp_path, machine="node-2")] == ["agent", "dns"]
    assert [log.machine for log in journal.files(tmp_path, service="agent")] == ["node-2", "node-10"]
    assert journal.files(tmp_path)[0].last(2) == ["two", "three"]
    assert journal.files(tmp_path)[0].last(0) == []


def test_a_change_is_written_down_even_when_it_fails_half_way(tmp_path: Path) -> None:
    record = state.Record(name="lab-1", cgroup="/nodeagent-lab/lab-1")
    state.save(tmp_path, record)
    with pytest.raises(errors.LabError), state.changing(tmp_path, record) as changed:
        changed.killed.append("node-1")
        raise errors.LabError("later")
    assert (
        state.load(tmp_path) == record == state.Record(name="lab-1", cgroup="/nodeagent-lab/lab-1", killed=["node-1"])
    )


def test_a_change_begins_with_what_another_run_has_written(tmp_path: Path) -> None:
    mine = state.Record(name="lab-1", cgroup="/nodeagent-lab/lab-1")
    state.save(tmp_path, state.Record(name="lab-1", cgroup="/nodeagent-lab/lab-1", cuts=[["a", "b"]]))
    with state.changing(tmp_path, mine) as record:
        assert record.cuts == [["a", "b"]]

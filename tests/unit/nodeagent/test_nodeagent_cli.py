"""What the commands print, for a person and for a program."""

import argparse
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeagent import cli
from nodeagent.cli import summary, tables, terminal
from nodeagent.images import names
from nodeagent.lab import errors, phases

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def test_columns_are_padded_to_the_widest_cell() -> None:
    assert tables.table(("NAME", "AGE"), [("a-long-name", "1s"), ("b", "10m")]) == (
        "NAME          AGE\na-long-name   1s\nb             10m"
    )


@pytest.mark.parametrize(
    ("created", "words"),
    [
        ("2026-11-23T12:00:00Z", "0s"),
        ("2026-11-23T11:58:01Z", "119s"),
        ("2026-11-23T11:57:30Z", "2m30s"),
        ("2026-11-23T11:57:00Z", "3m"),
        ("2026-11-23T11:30:00Z", "30m"),
        ("2026-11-23T06:00:00Z", "6h"),
        ("2026-11-20T12:00:00Z", "3d"),
        ("2026-11-23T12:00:05Z", "0s"),
    ],
)
def test_ages_are_written_as_kubectl_does(created: str, words: str) -> None:
    assert tables.age(created, now=NOW) == words


def screen(*, as_json: bool) -> terminal.Terminal:
    return terminal.Terminal(out=io.StringIO(), error=io.StringIO(), as_json=as_json)


def written(shown: terminal.Terminal) -> tuple[str, str]:
    assert isinstance(shown.out, io.StringIO)
    assert isinstance(shown.error, io.StringIO)
    return shown.out.getvalue(), shown.error.getvalue()


def test_a_phase_is_told_when_it_ends_with_its_time() -> None:
    shown = screen(as_json=False)
    recorder = shown.recorder()
    with recorder.step("start the machines") as step:
        step.detail = "node-1"
    assert [phase.name for phase in recorder.done] == ["start the machines"]
    out, _ = written(shown)
    assert out.startswith("ok  start the machines ")
    assert out.endswith(" s  node-1\n")


def test_a_phase_that_fails_is_not_told_as_done() -> None:
    recorder = phases.Phases()
    with pytest.raises(errors.LabError), recorder.step("start"):
        raise errors.LabError("no")
    assert recorder.done == []


def test_a_program_gets_one_json_document_and_nothing_else() -> None:
    shown = screen(as_json=True)
    shown.say("not for programs")
    with shown.recorder().step("quiet"):
        pass
    shown.result({"removed": True})
    assert json.loads(written(shown)[0]) == {"removed": True}


def test_an_error_comes_with_its_remedy() -> None:
    shown = screen(as_json=False)
    shown.fail(errors.LabError("port 6443 is taken", hint="choose one with --port"))
    assert written(shown) == ("", "error: port 6443 is taken\n  try: choose one with --port\n")


def test_an_error_for_a_program_is_json_too() -> None:
    shown = screen(as_json=True)
    shown.fail(errors.LabError("no root", hint="sudo"))
    assert json.loads(written(shown)[0]) == {"error": "no root", "hint": "sudo"}


OBJECTS = {
    "nodes": [
        {
            "metadata": {"name": "node-1", "creationTimestamp": "2026-11-23T11:59:50Z"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "192.168.77.11"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0+nodeagent.1"},
            },
        }
    ],
    "pods": [
        {
            "metadata": {"name": "web-1", "namespace": "default", "creationTimestamp": "2026-11-23T11:59:55Z"},
            "spec": {"containers": [{"name": "web"}], "nodeName": "node-1"},
            "status": {"phase": "Running", "podIP": "10.244.0.2", "containerStatuses": [{"ready": True}]},
        },
        {
            "metadata": {"name": "web-2", "namespace": "default", "creationTimestamp": "2026-11-23T11:59:55Z"},
            "spec": {"containers": [{"name": "web"}]},
        },
    ],
    "services": [
        {
            "metadata": {"name": "web", "namespace": "default", "creationTimestamp": "2026-11-23T11:59:55Z"},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.96.1.2",
                "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
            },
        }
    ],
}


def test_the_summary_shows_replies_objects_kubeconfig_and_what_to_try(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    text = summary.text(
        OBJECTS,
        replies=["web -> web-1"],
        report=phases.Phases(done=[phases.Phase(name="a", seconds=1.25)]),
        kubeconfig=tmp_path / ".lab" / "kubeconfig",
        detached=True,
        now=NOW,
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "web -> web-1" in lines
    assert "node-1 Ready 192.168.77.11 v1.36.0+nodeagent.1 10s" in lines
    assert "default/web-1 1/1 Running 10.244.0.2 node-1 5s" in lines
    assert "default/web-2 0/1 Unknown <none> <none> 5s" in lines
    assert "default/web ClusterIP 10.96.1.2 80/TCP,53/UDP 5s" in lines
    assert f"Up in 1.2 s. kubeconfig: {tmp_path}/.lab/kubeconfig" in lines
    assert sum(line.startswith("./dev kubectl ") for line in lines) == 3
    assert lines[-1] == "./dev down"


def test_a_lab_elsewhere_is_entered_by_its_own_kubeconfig() -> None:
    text = summary.text(
        OBJECTS, replies=[], report=phases.Phases(), kubeconfig=Path("/x/kubeconfig"), detached=True, now=NOW
    )
    assert "  kubectl --kubeconfig /x/kubeconfig get pods -A -o wide" in text.splitlines()
    assert text.splitlines()[-1] == "  ./dev down --directory /x"


def test_the_summary_for_a_program_names_every_object() -> None:
    report = phases.Phases(done=[phases.Phase(name="nodes", seconds=0.5)])
    read = summary.document(OBJECTS, replies=["r"], report=report, kubeconfig=Path("k"))
    assert read["pods"] == ["web-1", "web-2"]
    assert read["phases"] == [{"name": "nodes", "seconds": 0.5}]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    cli.register(made.add_subparsers(required=True))
    return made


def test_up_takes_the_options_the_readme_names() -> None:
    args = parser().parse_args(["lab", "up", "--nodes", "3", "--detach", "--port", "0"])
    assert (args.nodes, args.detach, args.port, args.output) == (3, True, 0, "text")


def test_a_command_after_exec_keeps_its_own_options() -> None:
    args = parser().parse_args(["lab", "exec", "node-1", "--", "ip", "-br", "address"])
    assert args.command[-3:] == ["ip", "-br", "address"]


def test_loading_an_image_that_is_not_there_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parser().parse_args(["image", "load", str(tmp_path / "none.tar"), "--directory", str(tmp_path)])
    assert args.run(args) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("org/app:1", "docker.io/org/app:1"),
        ("quay.io/org/app:1", "quay.io/org/app:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("UPPER", None),
    ],
)
def test_images_are_known_to_the_runtime_by_their_full_names(given: str, kept: str | None) -> None:
    assert names.full(given) == kept


@pytest.mark.parametrize("verb", [["pull", "UPPER"], ["rm", "UPPER"], ["build", ".", "--tag", "UPPER"]])
def test_what_is_no_image_name_is_refused(verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parser().parse_args(["image", *verb, "--directory", str(tmp_path)])
    assert args.run(args) == 1
    assert "is not an image name" in capsys.readouterr().err


def test_status_without_a_lab_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parser().parse_args(["lab", "status", "--directory", str(tmp_path), "--output", "json"])
    assert args.run(args) == 1
    assert json.loads(capsys.readouterr().out)["hint"].startswith("nodeagent lab up --detach")

"""containerd's configuration, by version, and what the host allows."""

import tomllib

import pytest

from nodeagent.lab import containerd, errors, machine, state

FIRST = state.Process(name="node-1", pid=1, start=1)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd containerd.io 1.7.27 05044ec0a9a75232cad458027ca83437aae3f4da", (1, 7)),
        ("containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4", (2, 1)),
    ],
)
def test_the_version_is_found_in_what_containerd_prints(text: str, version: tuple[int, int]) -> None:
    assert containerd.parse_version(text) == version


def test_a_containerd_that_tells_no_version_is_refused() -> None:
    with pytest.raises(errors.LabError, match="does not say its version"):
        containerd.parse_version("nothing of use")


@pytest.mark.parametrize("version", [(1, 6), (1, 7)])
def test_containerd_one_gets_its_cri_section(version: tuple[int, int]) -> None:
    read = tomllib.loads(containerd.config(version, sandbox_image="local/pause:1", restrict_oom_score=True))
    cri = read["plugins"]["io.containerd.grpc.v1.cri"]
    assert read["version"] == 2
    assert cri["sandbox_image"] == "local/pause:1"
    assert cri["restrict_oom_score_adj"] is True
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False
    assert cri["cni"] == {"bin_dir": "/opt/cni/bin", "conf_dir": "/etc/cni/net.d"}


def test_containerd_two_gets_the_sections_it_was_split_into() -> None:
    read = tomllib.loads(containerd.config((2, 0), sandbox_image="local/pause:1", restrict_oom_score=False))
    assert read["version"] == 3
    assert read["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == "local/pause:1"
    assert read["plugins"]["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"] is False


def test_cri_is_never_among_what_is_switched_off() -> None:
    for version in ((1, 6), (2, 0)):
        read = tomllib.loads(containerd.config(version, sandbox_image="x", restrict_oom_score=True))
        assert not any("cri" in name for name in read["disabled_plugins"])


@pytest.mark.parametrize(
    ("capabilities", "allowed"),
    [("000001ffffffffff", True), ("000001fffeffffff", False), ("0000000001000000", True), ("0000000000000000", False)],
)
def test_the_oom_score_is_left_alone_where_root_may_not_lower_it(capabilities: str, allowed: bool) -> None:
    assert containerd.may_lower_oom_score(f"Name:\tx\nCapEff:\t{capabilities}\n") is allowed


@pytest.fixture(autouse=True)
def socket_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerd, "listens", lambda first: True)


@pytest.mark.parametrize("line", ["", "io.containerd.grpc.v1           cri    linux/amd64    error"])
def test_a_containerd_without_working_cri_is_told_with_its_machine(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    listing = f"TYPE   ID   PLATFORMS   STATUS\nio.containerd.grpc.v1   images   -   ok\n{line}\n"
    monkeypatch.setattr(machine, "run", lambda first, argv: listing.encode())
    with pytest.raises(errors.LabError, match="containerd of node-1 has no working CRI plugin") as caught:
        containerd.wait_until_up(FIRST)
    assert caught.value.hint == "install a containerd built with CRI"


def test_a_containerd_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([errors.LabError("connection refused"), b"io.containerd.grpc.v1   cri   linux/amd64   ok\n"])

    def run(first: state.Process, argv: list[str]) -> bytes:
        answer = next(answers)
        if isinstance(answer, errors.LabError):
            raise answer
        return answer

    monkeypatch.setattr(machine, "run", run)
    containerd.wait_until_up(FIRST)
    assert list(answers) == []


def test_a_containerd_that_never_answers_is_given_up_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(first: state.Process, argv: list[str]) -> bytes:
        raise errors.LabError("connection refused")

    monkeypatch.setattr(machine, "run", run)
    monkeypatch.setattr(containerd, "START_SECONDS", 0.05)
    with pytest.raises(errors.LabError, match="does not answer: connection refused"):
        containerd.wait_until_up(FIRST)

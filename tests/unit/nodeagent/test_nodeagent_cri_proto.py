"""The generated CRI code is what its source says, and its numbers are the contract's."""

from pathlib import Path

import pytest

from nodeagent.cri import build
from nodeagent.cri.v1 import cri_pb2 as cri

ROOT = Path(__file__).resolve().parents[3]


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    build.generate(ROOT, tmp_path)
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*")]
    assert len(made) == 5
    for path in made:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), "python -m nodeagent.cri.build"


@pytest.mark.parametrize(
    ("message", "field", "number"),
    [
        (cri.PodSandboxConfig, "linux", 8),
        (cri.ImageSpec, "user_specified_image", 18),
        (cri.ContainerConfig, "CDI_devices", 17),
        (cri.ContainerStatus, "image_id", 17),
        (cri.LinuxContainerSecurityContext, "seccomp", 15),
        (cri.ContainerEventResponse, "pod_sandbox_status", 4),
        (cri.Namespace, "options", 2),
    ],
)
def test_field_numbers(message: type[cri.PodSandboxConfig], field: str, number: int) -> None:
    assert message.DESCRIPTOR.fields_by_name[field].number == number


def test_signals_are_positions_in_a_list() -> None:
    assert (cri.SIGTERM, cri.SIGRTMINPLUS15, cri.SIGRTMAXMINUS14, cri.SIGRTMAX) == (23, 50, 51, 65)

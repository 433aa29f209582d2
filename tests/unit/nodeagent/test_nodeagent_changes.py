"""Which changes of a pod's object matter, and which are the echo of our own writing."""

from typing import Any

import pytest
from nodeagent_given import container, pod

from nodeagent.pods import changes

DELETED = {"deletionTimestamp": "2026-11-23T15:00:00Z", "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("fields", "echo"),
    [
        ({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}, True),
        ({"metadata": {"resourceVersion": "9"}}, True),
        ({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}, False),
        ({"metadata": {"labels": {"a": "b"}}}, False),
        ({"metadata": {"annotations": {"a": "b"}}}, False),
        ({"metadata": {"generation": 2}}, False),
        ({"metadata": DELETED}, False),
        ({"activeDeadlineSeconds": 5}, False),
    ],
)
def test_an_echo_is_a_change_of_nothing_but_our_own_status(fields: dict[str, Any], echo: bool) -> None:
    assert changes.only_status(pod(), pod(**fields)) is echo


def test_a_new_image_is_no_echo() -> None:
    assert not changes.only_status(pod(), pod(container(image="other:1")))


def test_a_deletion_is_urgent_and_so_is_a_shorter_grace_but_not_a_longer_one() -> None:
    deleted, shorter = pod(metadata=DELETED), pod(metadata={**DELETED, "deletionGracePeriodSeconds": 1})
    assert changes.urgent(pod(), deleted) and changes.urgent(deleted, shorter)
    assert not changes.urgent(shorter, deleted) and not changes.urgent(deleted, deleted)
    assert not changes.urgent(pod(), pod(metadata={"labels": {"a": "b"}}))

"""The table of pods: above all, the one word that says what a pod does.

Owns the STATUS and RESTARTS texts people know from `kubectl get pods`. Must not know how tables are sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.apiserver.registry import columns
from controlplane.apiserver.registry.columns import Column, wide

COLUMNS: tuple[Column, ...] = (
    columns.NAME,
    Column("Ready", "Ready containers of all containers that should be ready."),
    Column("Status", "What the pod does, as one word: its phase, or what keeps it from the next one."),
    Column("Restarts", "Restarts of the containers together, and how long ago the last one was."),
    columns.AGE,
    wide("IP", "Address of the pod."),
    wide("Node", "Node the pod was bound to."),
    wide("Nominated Node", "Node on which the scheduler makes room for the pod."),
    wide("Readiness Gates", "Fulfilled readiness gates of all readiness gates."),
)
_FINISHED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}
_UNREACHABLE = "NodeLost"
_EPOCH = datetime.fromisoformat("0001-01-01T00:00:00+00:00")

State = Mapping[str, Any]


def cells(obj: State, now: datetime) -> list[Any]:
    """One pod's row."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    summary = Summary(obj)
    gates = spec.get("readinessGates") or ()
    met = {item.get("type") for item in status.get("conditions") or () if item.get("status") == "True"}
    done = sum(gate.get("conditionType") in met for gate in gates)
    ips = status.get("podIPs") or ()
    return [
        columns.name(obj),
        f"{summary.ready}/{summary.total}",
        summary.text,
        summary.restarts_text(now),
        columns.age(obj, now),
        (ips[0].get("ip") if ips else status.get("podIP")) or columns.UNSET,
        spec.get("nodeName") or columns.UNSET,
        status.get("nominatedNodeName") or columns.UNSET,
        f"{done}/{len(gates)}" if gates else columns.UNSET,
    ]


def row_conditions(obj: State) -> list[dict[str, Any]]:
    """A finished pod's row is marked, so that clients may hide it."""
    phase = (obj.get("status") or {}).get("phase")
    if phase not in _FINISHED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _FINISHED[phase]}]


class Summary:
    """Ready and restart counts and the status word of one pod."""

    def __init__(self, obj: State) -> None:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        init = spec.get("initContainers") or ()
        self._sidecars = frozenset(item.get("name") for item in init if item.get("restartPolicy") == "Always")
        self.total = len(spec.get("containers") or ()) + len(self._sidecars)
        self.ready = 0
        self.restarts = 0
        self._last = _EPOCH
        self.text = _first_word(status)
        self._gated(status)
        if not self._read_init(status, len(init)) or _initialized(status):
            self._read_regular(status)
        self._deleted(obj, status)

    def restarts_text(self, now: datetime) -> str | int:
        """`3 (20s ago)`, or the number alone while nothing restarted."""
        if self.restarts and self._last != _EPOCH:
            return f"{self.restarts} ({columns.since(self._last.isoformat(), now)} ago)"
        return str(self.restarts)

    def _gated(self, status: State) -> None:
        for item in status.get("conditions") or ():
            if item.get("type") == "PodScheduled" and item.get("reason") == "SchedulingGated":
                self.text = "SchedulingGated"

    def _restarted(self, item: State) -> None:
        self.restarts += item.get("restartCount") or 0
        self._note_last(item)

    def _note_last(self, item: State) -> None:
        ended = (item.get("lastState") or {}).get("terminated") or {}
        finished = columns.parse_time(ended.get("finishedAt"))
        if finished is not None and finished > self._last:
            self._last = finished

    def _read_init(self, status: State, total: int) -> bool:
        """True while the init containers are what the pod waits for."""
        sidecar_restarts = 0
        sidecar_last = _EPOCH
        initializing = False
        for index, item in enumerate(status.get("initContainerStatuses") or ()):
            if initializing:
                continue
            self._restarted(item)
            sidecar = item.get("name") in self._sidecars
            if sidecar:
                sidecar_restarts += item.get("restartCount") or 0
                finished = columns.parse_time(((item.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
                sidecar_last = max(sidecar_last, finished or _EPOCH)
            state = item.get("state") or {}
            ended = state.get("terminated")
            if ended is not None and not ended.get("exitCode"):
                continue
            if sidecar and item.get("started"):
                self.ready += bool(item.get("ready"))
                continue
            self.text = _init_word(state, index, total)
            initializing = True
        if not initializing or _initialized(status):
            self.restarts, self._last = sidecar_restarts, sidecar_last
        return initializing

    def _read_regular(self, status: State) -> None:
        running = False
        for item in reversed(status.get("containerStatuses") or ()):
            self._restarted(item)
            state = item.get("state") or {}
            word = _word(state)
            if word:
                self.text = word
            elif item.get("ready") and "running" in state:
                running = True
                self.ready += 1
        if self.text == "Completed" and running:
            self.text = "Running" if _is_ready(status) else "NotReady"

    def _deleted(self, obj: State, status: State) -> None:
        if not (obj.get("metadata") or {}).get("deletionTimestamp"):
            return
        if status.get("reason") == _UNREACHABLE:
            self.text = "Unknown"
        elif status.get("phase") not in _FINISHED:
            self.text = "Terminating"


def _first_word(status: State) -> str:
    return status.get("reason") or status.get("phase") or ""


def _word(state: State) -> str:
    """What a waiting or ended container says, "" for one that runs."""
    waiting, ended = state.get("waiting") or {}, state.get("terminated")
    if waiting.get("reason"):
        return str(waiting["reason"])
    return _ending(ended) if ended is not None else ""


def _ending(ended: State) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode') or 0}"


def _init_word(state: State, index: int, total: int) -> str:
    ended, waiting = state.get("terminated"), state.get("waiting") or {}
    if ended is not None:
        return f"Init:{_ending(ended)}"
    reason = waiting.get("reason") or ""
    return f"Init:{reason}" if reason not in ("", "PodInitializing") else f"Init:{index}/{total}"


def _condition(status: State, kind: str) -> bool:
    return any(item.get("type") == kind and item.get("status") == "True" for item in status.get("conditions") or ())


def _initialized(status: State) -> bool:
    return _condition(status, "Initialized")


def _is_ready(status: State) -> bool:
    return _condition(status, "Ready")

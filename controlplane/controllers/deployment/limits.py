"""How far a rollout may go: surge, unavailability, and what follows from them. Pure arithmetic."""

import math

from controlplane.projection import Deployment


def rolling(deployment: Deployment) -> bool:
    """Whether the strategy replaces pods step by step."""
    return deployment.spec.strategy.type == "RollingUpdate"


def max_surge(deployment: Deployment) -> int:
    """Pods allowed above the desired number; a percentage rounds up."""
    if not rolling(deployment):
        return 0
    return _share(deployment.spec.strategy.rolling_update.max_surge, deployment.spec.replicas, up=True)


def max_unavailable(deployment: Deployment) -> int:
    """Pods allowed to be missing; a percentage rounds down, but surge and this are never both zero."""
    wanted = deployment.spec.replicas
    if not rolling(deployment) or not wanted:
        return 0
    share = _share(deployment.spec.strategy.rolling_update.max_unavailable, wanted, up=False)
    if not share and not max_surge(deployment):
        return 1
    return min(share, wanted)


def min_available(deployment: Deployment) -> int:
    """Pods that must stay available while rolling."""
    return deployment.spec.replicas - max_unavailable(deployment)


def maximum(deployment: Deployment) -> int:
    """Pods that may exist while rolling."""
    return deployment.spec.replicas + max_surge(deployment)


def _share(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * total / 100 if value.endswith("%") else float(value)
    return math.ceil(exact) if up else math.floor(exact)

"""Containers: image, environment, ports, resources, probes, hooks and security context.

Projections for decoding only; see `kube.types`.
"""

from __future__ import annotations

import msgspec

from kube.types.base import Projection
from kube.types.volume import ObjectFieldSelector, ResourceFieldSelector, VolumeDevice, VolumeMount


class ConfigMapKeySelector(Projection):
    """One key of a ConfigMap."""

    key: str = ""
    name: str = ""
    optional: bool | None = None


class SecretKeySelector(Projection):
    """One key of a Secret."""

    key: str = ""
    name: str = ""
    optional: bool | None = None


class FileKeySelector(Projection):
    """One key of an environment file on a volume."""

    key: str = ""
    optional: bool | None = None
    path: str = ""
    volume_name: str = ""


class EnvVarSource(Projection):
    """Where the value of an environment variable comes from."""

    config_map_key_ref: ConfigMapKeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    file_key_ref: FileKeySelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    secret_key_ref: SecretKeySelector | None = None


class EnvVar(Projection):
    """One environment variable."""

    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class ConfigMapEnvSource(Projection):
    """A ConfigMap whose keys become variables."""

    name: str = ""
    optional: bool | None = None


class SecretEnvSource(Projection):
    """A Secret whose keys become variables."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Projection):
    """Variables from a whole object, each with a prefix."""

    config_map_ref: ConfigMapEnvSource | None = None
    prefix: str = ""
    secret_ref: SecretEnvSource | None = None


class ContainerPort(Projection):
    """A port the container listens on; `host_port` publishes it on the node."""

    container_port: int = 0
    host_ip: str = ""
    host_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class ResourceClaim(Projection):
    """A claim of the pod this container uses."""

    name: str = ""
    request: str | None = None


class ResourceRequirements(Projection):
    """Quantities asked for and the most allowed, as text."""

    claims: tuple[ResourceClaim, ...] = ()
    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}


class ContainerResizePolicy(Projection):
    """Whether changing a resource restarts the container."""

    resource_name: str = ""
    restart_policy: str = ""


class ExecAction(Projection):
    """A command run inside the container."""

    command: tuple[str, ...] = ()


class HTTPHeader(Projection):
    """One header of a probe's request."""

    name: str = ""
    value: str = ""


class HTTPGetAction(Projection):
    """An HTTP GET against the container."""

    host: str | None = None
    http_headers: tuple[HTTPHeader, ...] = ()
    path: str = "/"
    port: int | str = 0
    scheme: str = "HTTP"


class TCPSocketAction(Projection):
    """A TCP connect against the container."""

    host: str | None = None
    port: int | str = 0


class GRPCAction(Projection):
    """A gRPC health check against the container."""

    port: int = 0
    service: str | None = None


class SleepAction(Projection):
    """A pause in seconds."""

    seconds: int = 0


class Probe(Projection):
    """A health check and its rhythm, in seconds."""

    exec: ExecAction | None = None
    failure_threshold: int = 3
    grpc: GRPCAction | None = None
    http_get: HTTPGetAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    success_threshold: int = 1
    tcp_socket: TCPSocketAction | None = None
    termination_grace_period_seconds: int | None = None
    timeout_seconds: int = 1


class LifecycleHandler(Projection):
    """What a hook does; exactly one attribute is set."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None
    tcp_socket: TCPSocketAction | None = None


class Lifecycle(Projection):
    """Hooks after start and before stop, and the stop signal."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class SELinuxOptions(Projection):
    """The SELinux context of a container's processes."""

    level: str | None = None
    role: str | None = None
    type: str | None = None
    user: str | None = None


class SeccompProfile(Projection):
    """The system call filter."""

    localhost_profile: str | None = None
    type: str = ""


class AppArmorProfile(Projection):
    """The AppArmor profile."""

    localhost_profile: str | None = None
    type: str = ""


class Capabilities(Projection):
    """Linux capabilities added and dropped."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Projection):
    """Identity and privileges of one container; wins over the pod's."""

    allow_privilege_escalation: bool | None = None
    app_armor_profile: AppArmorProfile | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    proc_mount: str | None = None
    read_only_root_filesystem: bool | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None


class ContainerRestartRuleOnExitCodes(Projection):
    """Exit codes a restart rule applies to."""

    operator: str = ""
    values: tuple[int, ...] = ()


class ContainerRestartRule(Projection):
    """What to do when a container ends in a given way."""

    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class Container(Projection):
    """One container of a pod."""

    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    image: str = ""
    image_pull_policy: str | None = None
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    restart_policy: str | None = None
    restart_policy_rules: tuple[ContainerRestartRule, ...] = ()
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool = False
    stdin_once: bool = False
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    tty: bool = False
    volume_devices: tuple[VolumeDevice, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str | None = None


class EphemeralContainer(Projection):
    """A container added to a running pod for debugging."""

    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    image: str = ""
    image_pull_policy: str | None = None
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    restart_policy: str | None = None
    restart_policy_rules: tuple[ContainerRestartRule, ...] = ()
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool = False
    stdin_once: bool = False
    target_container_name: str | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    tty: bool = False
    volume_devices: tuple[VolumeDevice, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str | None = None

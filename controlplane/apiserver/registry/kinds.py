"""Which strategy serves which resource. Owns nothing but this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from controlplane.apiserver.registry import (
    attachment,
    batch,
    certificates,
    cluster,
    configuration,
    deployment,
    devices,
    endpoint,
    event,
    flowcontrol,
    networking,
    pod,
    policies,
    service,
    service_ranges,
    sets,
    storage,
)
from controlplane.apiserver.registry.strategy import Strategy
from kube.scheme import Resource

STRATEGIES: Mapping[str, Callable[[Resource], Strategy]] = MappingProxyType(
    {
        "certificatesigningrequests.certificates.k8s.io": certificates.CertificateSigningRequests,
        "configmaps": configuration.ConfigMaps,
        "controllerrevisions.apps": sets.ControllerRevisions,
        "cronjobs.batch": batch.CronJobs,
        "csidrivers.storage.k8s.io": storage.CSIDrivers,
        "csinodes.storage.k8s.io": storage.CSINodes,
        "csistoragecapacities.storage.k8s.io": attachment.CSIStorageCapacities,
        "daemonsets.apps": sets.DaemonSets,
        "deployments.apps": deployment.Deployments,
        "deviceclasses.resource.k8s.io": devices.DeviceClasses,
        "endpoints": endpoint.Endpoints,
        "endpointslices.discovery.k8s.io": endpoint.EndpointSlices,
        "events": event.Events,
        "events.events.k8s.io": event.Events,
        "flowschemas.flowcontrol.apiserver.k8s.io": flowcontrol.FlowSchemas,
        "ingressclasses.networking.k8s.io": networking.IngressClasses,
        "ingresses.networking.k8s.io": networking.Ingresses,
        "ipaddresses.networking.k8s.io": service_ranges.IPAddresses,
        "jobs.batch": batch.Jobs,
        "leases.coordination.k8s.io": event.Leases,
        "limitranges": policies.LimitRanges,
        "namespaces": cluster.Namespaces,
        "networkpolicies.networking.k8s.io": networking.NetworkPolicies,
        "nodes": cluster.Nodes,
        "persistentvolumeclaims": storage.PersistentVolumeClaims,
        "persistentvolumes": storage.PersistentVolumes,
        "poddisruptionbudgets.policy": policies.PodDisruptionBudgets,
        "pods": pod.Pods,
        "podtemplates": pod.PodTemplates,
        "priorityclasses.scheduling.k8s.io": policies.PriorityClasses,
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": flowcontrol.PriorityLevelConfigurations,
        "replicasets.apps": deployment.ReplicaSets,
        "replicationcontrollers": deployment.ReplicationControllers,
        "resourceclaims.resource.k8s.io": devices.ResourceClaims,
        "resourceclaimtemplates.resource.k8s.io": devices.ResourceClaimTemplates,
        "resourcequotas": policies.ResourceQuotas,
        "resourceslices.resource.k8s.io": devices.ResourceSlices,
        "runtimeclasses.node.k8s.io": policies.RuntimeClasses,
        "secrets": configuration.Secrets,
        "serviceaccounts": configuration.ServiceAccounts,
        "servicecidrs.networking.k8s.io": service_ranges.ServiceCIDRs,
        "services": service.Services,
        "statefulsets.apps": sets.StatefulSets,
        "storageclasses.storage.k8s.io": storage.StorageClasses,
        "volumeattachments.storage.k8s.io": attachment.VolumeAttachments,
        "volumeattributesclasses.storage.k8s.io": attachment.VolumeAttributesClasses,
    }
)

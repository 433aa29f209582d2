"""The Deployment controller: moves pods from one template to the next through ReplicaSets.

revisions (which ReplicaSet is which), limits (how far a rollout may go), rollout (sizes), progress (status and
conditions) and plan are pure; loop feeds them. Follows upstream's algorithm, reasons and messages, because
`kubectl rollout status` reads them.
"""

"""Having a container's image on the node: names, pull policy, back-off. It knows nothing of pods' lives."""

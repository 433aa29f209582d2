"""Volumes and claims: binding one to the other, making volumes on request, and what becomes of them afterwards."""

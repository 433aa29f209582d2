"""The schemas of Kubernetes 1.36: checking, merge rules and OpenAPI v3, from one small committed file.

Owns `definitions.json` (built by `python -m kube.schema.build`), our own descriptions, and what is read out of them.
Must not know which requests need it.
"""

from kube.schema.catalog import Catalog, Field, Shape, UnknownKind, catalog, revision
from kube.schema.checking import Report, check
from kube.schema.merging import TypeRules, merge_rules
from kube.schema.openapi import openapi_v3
from kube.schema.structure import TypeStructure, structure

__all__ = [
    "Catalog",
    "Field",
    "Report",
    "Shape",
    "TypeRules",
    "TypeStructure",
    "UnknownKind",
    "catalog",
    "check",
    "merge_rules",
    "openapi_v3",
    "revision",
    "structure",
]

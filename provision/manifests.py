"""The manifests of ``labs/kubernetes``, and what a run makes of them: its namespace, its label, the cluster's images."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from provision.kubernetes_api import Object
from provision.kubernetes_part import Kubernetes

FOLDER = Path(__file__).resolve().parent.parent / "labs" / "kubernetes"
LABEL = "labproof"
"""On everything that a run makes; its value is the run."""
APPLICATION = "app"
"""Name of the containers that run the application."""
PROGRAM = FOLDER / "hello.py"


class ManifestError(Exception):
    """A manifest is not one; says which file, and why."""


def load(name: str) -> list[Object]:
    """The objects of ``labs/kubernetes/NAME.yaml``, in order.

    Raises:
        ManifestError: it cannot be read, or an object of it has no kind or no name.
    """
    path = FOLDER / f"{name}.yaml"
    try:
        things = [thing for thing in yaml.safe_load_all(path.read_text(encoding="utf-8")) if thing]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: {' '.join(str(error).split())}") from error
    for number, thing in enumerate(things, 1):
        if not isinstance(thing, dict) or "kind" not in thing or "name" not in thing.get("metadata", {}):
            raise ManifestError(f"{path}: object {number} has no kind, or no metadata.name")
    return things


def program() -> Object:
    """The application's program, as a ConfigMap that its pods mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "hello"},
        "data": {PROGRAM.name: PROGRAM.read_text(encoding="utf-8")},
    }


def adapted(thing: Object, namespace: str, run: str, part: Kubernetes) -> Object:
    """An object as a run makes it on a cluster; the manifest's own stays as it is.

    Args:
        namespace: where it goes.
        run: the value of its label, its pods' too.
        part: says which images the cluster has.
    """
    thing = deepcopy(thing)
    thing["metadata"]["namespace"] = namespace
    for metadata in _metadata(thing):
        metadata["labels"] = {**metadata.get("labels", {}), LABEL: run}
    for subject in thing.get("subjects", []):
        subject.setdefault("namespace", namespace)
    for spec in _pod_specs(thing):
        for container in spec["containers"]:
            if container["name"] == APPLICATION and part.application:
                container["image"] = part.application
                for ours in ("command", "volumeMounts"):
                    container.pop(ours, None)
                spec.pop("volumes", None)
            else:
                container["image"] = part.images.get(container["image"], container["image"])
            container.setdefault("imagePullPolicy", "IfNotPresent")
    return thing


def _metadata(thing: Object) -> Iterator[dict[str, Any]]:
    yield thing["metadata"]
    if template := thing.get("spec", {}).get("template"):
        yield template["metadata"]


def _pod_specs(thing: Object) -> Iterator[dict[str, Any]]:
    if thing["kind"] == "Pod":
        yield thing["spec"]
    elif template := thing.get("spec", {}).get("template"):
        yield template["spec"]

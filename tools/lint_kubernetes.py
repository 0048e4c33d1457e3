"""Checks `deploy/kubernetes/` against the schemas of the Kubernetes API, strictly: an unknown field is an error.

    python -m tools.lint_kubernetes

Works offline: `kubernetes-validate` contains the schemas. Custom resources and kustomizations have none there; the
tests check them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).resolve().parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.30", "1.37")
"""The oldest release that the manifests are for, and the newest with a schema."""

WITHOUT_SCHEMA = {"ServiceMonitor", "Kustomization"}


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of the manifests, with the name of its file."""
    for file in sorted(MANIFESTS.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            yield file.name, document


def problems() -> Iterator[str]:
    import kubernetes_validate  # installed by `make lint-kubernetes` only

    for file, document in documents():
        if document["kind"] in WITHOUT_SCHEMA:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                place = ".".join(map(str, error.path))
                yield f"{file}: {document['kind']} {document['metadata']['name']}: {place}: {error.message} ({version})"


def main() -> None:
    found = list(problems())
    checked = sum(document["kind"] not in WITHOUT_SCHEMA for _, document in documents())
    sys.stdout.write("".join(f"{problem}\n" for problem in found) or f"{checked} objects are valid\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

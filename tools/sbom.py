"""Writes a CycloneDX 1.6 bill of materials of the production dependencies to standard output.

    python -m tools.sbom [--validate]

Names, versions, hashes and the dependency graph are from `requirements/production.txt`, licences from the metadata of
the installed packages. The output contains no time and no random id: the same lock file gives the same document.
`--validate` checks the document against the schema, which `cyclonedx-python-lib` of `make audit` contains.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kataven import __version__

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "production.txt"
PROJECT = "kataven-hub"

_ENTRY = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?==(?P<version>[^ ;]+)(?: ; (?P<marker>.*?))?(?: \\)?")


class SbomError(Exception):
    """Raised if the lock file can't be read or the document is not valid."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of the lock file."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    """SHA-256 of each file that may be installed: one per platform."""

    required_by: tuple[str, ...]

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def read_lock(text: str) -> list[Locked]:
    """The packages of a lock file that uv wrote, with hashes and the comments that name who requires each package."""
    return [_locked(block) for block in re.split(r"^(?=[\w.-]+(?:\[|==))", text, flags=re.MULTILINE) if block.strip()]


def _locked(block: str) -> Locked:
    first, *rest = block.rstrip().splitlines()
    entry = _ENTRY.fullmatch(first.rstrip())
    if entry is None:
        raise SbomError(f"not an entry of a lock file: {first}")
    hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
    comments = [line.strip().removeprefix("#").strip() for line in rest if line.strip().startswith("#")]
    names = [name for line in comments if (name := line.removeprefix("via").strip()) and not name.startswith("-")]
    required_by = tuple(PROJECT if name.startswith(f"{PROJECT} ") else name for name in names)
    if not hashes or not required_by:
        raise SbomError(f"no hash, or no package that requires it: {first}")
    return Locked(entry["name"], entry["version"], entry["marker"], hashes, required_by)


def document(packages: list[Locked]) -> dict[str, Any]:
    """The bill of materials."""
    root = f"pkg:pypi/{PROJECT}@{__version__}"
    # A package can have two versions, for two ranges of Python.
    refs: dict[str, list[str]] = defaultdict(list)
    for package in packages:
        refs[package.name].append(package.purl)
    refs[PROJECT] = [root]
    needs: dict[str, set[str]] = {ref: set() for found in refs.values() for ref in found}
    for package in packages:
        for ref in (ref for name in package.required_by for ref in refs[name]):
            needs[ref].add(package.purl)
    described: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": PROJECT,
                "version": __version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": root,
            }
        },
        "components": [_component(package) for package in packages],
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)],
    }
    return {**described, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(described))}"}


def _component(package: Locked) -> dict[str, Any]:
    # `hashes` of a component is for one file. A version has one file per platform, so they are properties.
    properties = [{"name": "kataven:lock:sha256", "value": value} for value in package.hashes]
    if package.marker is not None:
        properties.append({"name": "kataven:lock:marker", "value": package.marker})
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "properties": properties,
    }
    if package.marker is not None:
        found["scope"] = "optional"
    licences = list(_licences(package))
    return {**found, "licenses": licences} if licences else found


def _licences(package: Locked) -> Iterator[dict[str, Any]]:
    """The licence that the installed package declares; none for a package that this platform does not install."""
    try:
        declared = metadata.metadata(package.name)
    except metadata.PackageNotFoundError:
        return
    if declared["Version"] != package.version:
        return
    if expression := declared.get("License-Expression"):
        yield {"expression": expression}
        return
    prefix = "License :: OSI Approved :: "
    classifiers = [
        line.removeprefix(prefix) for line in declared.get_all("Classifier") or [] if line.startswith(prefix)
    ]
    text = declared.get("License") or ""
    for found in classifiers or [line for line in [text.strip()] if line and "\n" not in line]:
        yield {"license": {"name": found}}


def _validate(text: str) -> None:
    from cyclonedx.schema import SchemaVersion  # installed by `make audit` and `make sbom` only
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise SbomError(f"not a valid CycloneDX document: {error}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--validate", action="store_true", help="check the document against the schema of CycloneDX")
    chosen = parser.parse_args(arguments)
    text = json.dumps(document(read_lock(LOCK.read_text())), indent=2, sort_keys=True)
    if chosen.validate:
        _validate(text)
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()

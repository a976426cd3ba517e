"""Fetches what the tests of deploy/kubernetes need into a folder: helm, built from its Go module, and the published schemas of
custom resources, out of their Go modules. A module that is not what was pinned is refused; nothing of it is kept in the repository.

Usage: fetch.py FOLDER, with `go` on $PATH."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

HELM = ("helm.sh/helm/v3", "v3.22.0", "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=")

# Module, version, its hash as go.sum writes it, and what is taken from it: a folder of ours, and a prefix of names in the module.
SCHEMAS = [
    ("sigs.k8s.io/gateway-api", "v1.7.0", "h1:duVnm7nO6oXfMMUWfcDoBph47CYR/ME3NGxccOVglaY=",
     {"gateway-api": "config/crd/standard/gateway.networking.k8s.io_", "experimental": "config/crd/experimental/gateway.networking.k8s.io_"}),
    ("github.com/envoyproxy/gateway", "v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=",
     {"envoy-gateway": "charts/gateway-helm/charts/crds/crds/generated/"}),
    ("istio.io/api", "v1.31.1", "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=",
     {"istio": "kubernetes/customresourcedefinitions.gen.yaml", "istio-mesh": ("mesh/", "networking/", "type/", "meta/", "analysis/", "common-protos/google/api/field_behavior.proto")}),
    ("github.com/projectcontour/contour", "v1.33.8", "h1:QoOfwqWws+CVRFpsRC2+f1DmB5IdurtyUtepIsiWfE0=",
     {"contour": "examples/contour/01-crds.yaml"}),
    ("github.com/prometheus-operator/prometheus-operator", "v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
     {"prometheus": "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"}),
]

# Our pins take the place of the checksum database, which not every network reaches; helm's own dependencies are pinned by its go.sum.
GO = {**os.environ, "GOSUMDB": "off", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0", "GOWORK": "off"}


def module(path, version, pinned, cwd):
    """Downloads a module, and says where its zip and its folder are."""
    said = subprocess.run(["go", "mod", "download", "-json", f"{path}@{version}"], env=GO, cwd=cwd, capture_output=True, text=True)
    told = json.loads(said.stdout or "{}")
    # An older Go than a module's own is an error, too, but it has fetched it by then: only its files are wanted.
    if "Sum" not in told:
        sys.exit(f"{path}@{version} could not be fetched: {told.get('Error', said.stderr)}")
    if told["Sum"] != pinned:
        sys.exit(f"{path}@{version} is not what was pinned: {told['Sum']}, not {pinned}")
    return told


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    schemas = folder / "schemas"
    shutil.rmtree(schemas, ignore_errors=True)
    schemas.mkdir(parents=True)
    for path, version, pinned, wanted in SCHEMAS:
        with zipfile.ZipFile(module(path, version, pinned, schemas)["Zip"]) as archive:
            root = f"{path}@{version}/"
            for name in archive.namelist():
                inner = name.removeprefix(root)
                for kind, prefixes in wanted.items():
                    if inner.startswith(prefixes) and inner.endswith((".yaml", ".proto")):
                        file = schemas / kind / inner.removeprefix("common-protos/")
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(archive.read(name))
    told = module(*HELM, schemas)
    # Not optimised, which halves the time to build it.
    subprocess.run(["go", "build", "-trimpath", "-gcflags=all=-N -l", "-ldflags=-s -w", "-o", str(folder / "helm"), "./cmd/helm"],
                   env=GO, cwd=told["Dir"], check=True)


main()

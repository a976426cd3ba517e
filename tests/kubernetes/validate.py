"""Holds Kubernetes manifests against published schemas, as strictly as no API server does: a field that a schema does not know is an
error, where a cluster would drop it and do without. The rules in CEL that custom resources have are asked as well. Kubernetes' own kinds: PyPI's kubernetes-validate. Custom resources: the CRDs that
fetch.py put there. A document with `meshConfig` alone, values of Istio's chart: its protobuf message.

Usage: validate.py SCHEMAS FILE…   (`-` is standard input; `experimental:FILE` is held against that channel of the Gateway API)
Prints one line an object, and ends with 1 where one is wrong."""

import importlib
import pathlib
import sys
import tempfile

import celpy
import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.37"


class Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """YAML where a key that is there twice is an error; parsers elsewhere take either."""


def mapping(loader, node):
    pairs = [(loader.construct_object(key, deep=True), loader.construct_object(value, deep=True)) for key, value in node.value]
    if len({key for key, _ in pairs}) != len(pairs):
        raise yaml.constructor.ConstructorError(None, None, "a key is there twice", node.start_mark)
    return dict(pairs)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def strict(schema):
    """A structural schema as JSON Schema in which an object has no members but those it names."""
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key not in ("default", "nullable")}
    if "properties" in schema:
        made["properties"] = {name: strict(member) for name, member in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        made["items"] = strict(schema["items"])
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    elif schema.get("type") == "object" and "additionalProperties" not in schema and not open_ended:
        made["additionalProperties"] = False
        made.setdefault("properties", {})
    # As OpenAPI 3.0 writes it.
    for bound in ("Minimum", "Maximum"):
        if isinstance(made.get(f"exclusive{bound}"), bool) and made.pop(f"exclusive{bound}"):
            made[f"exclusive{bound}"] = made.pop(bound.lower())
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def defaulted(schema, value):
    """The value as an API server has it before it asks rules."""
    if isinstance(value, dict):
        members = schema.get("properties", {})
        value = {**{name: member["default"] for name, member in members.items() if "default" in member}, **value}
        other = schema.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        return {name: defaulted(members.get(name, other), member) for name, member in value.items()}
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), member) for member in value]
    return value


def broken_rules(schema, value, at="$"):
    """Which of the schema's rules in CEL do not hold, but for those about a change."""
    rules = [rule for rule in schema.get("x-kubernetes-validations", []) if "oldSelf" not in rule["rule"]]
    for rule in rules:
        environment = celpy.Environment()
        program = environment.program(environment.compile(rule["rule"]))
        try:
            holds = bool(program.evaluate({"self": celpy.json_to_cel(value)}))
        except celpy.CELEvalError as error:
            yield f"{at}: {rule['rule']}: {error}"
            continue
        if not holds:
            yield f"{at}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        other = schema.get("additionalProperties")
        other = other if isinstance(other, dict) else {}
        for name, member in value.items():
            yield from broken_rules(schema.get("properties", {}).get(name, other), member, f"{at}.{name}")
    elif isinstance(value, list):
        for place, member in enumerate(value):
            yield from broken_rules(schema.get("items", {}), member, f"{at}[{place}]")


class CustomResources:
    """The schemas of custom resources by apiVersion and kind."""

    def __init__(self, folder, channel):
        self.schemas = {}
        for name in ("envoy-gateway", "istio", "contour", "prometheus", channel):
            files = list((folder / name).rglob("*.yaml"))
            assert files, f"there are no schemas in {folder / name}"
            for file in files:
                for crd in yaml.load_all(file.read_text(), yaml.CSafeLoader):
                    if crd and crd.get("kind") == "CustomResourceDefinition":
                        self.add(crd["spec"])

    def add(self, spec):
        for version in spec["versions"]:
            if version["served"]:
                key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                self.schemas[key] = version["schema"]["openAPIV3Schema"]

    def wrong(self, structural, thing):
        schema = strict(structural)
        schema["properties"]["metadata"] = {"type": "object"}
        schema["properties"].update(apiVersion={"type": "string"}, kind={"type": "string"})
        errors = jsonschema.Draft202012Validator(schema).iter_errors(thing)
        metadata = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": thing.get("metadata")}
        return [told(error) for error in errors] + built_in(metadata) + list(broken_rules(structural, defaulted(structural, thing)))


def told(error):
    return f"{error.json_path}: {error.message[:300]}"


def built_in(thing):
    try:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
        return []
    except kubernetes_validate.ValidationError as error:
        return [told(error)]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]


def mesh_config(folder, values):
    """Reads it as Istio does, but refuses what it does not know."""
    from google.protobuf import json_format
    from grpc_tools import _proto, protoc

    protos = folder / "istio-mesh"
    with tempfile.TemporaryDirectory() as made:
        files = [str(file.relative_to(protos)) for file in protos.rglob("*.proto")]
        common = str(pathlib.Path(_proto.__file__).parent) if _proto.__file__ else str(list(_proto.__path__)[0])
        assert protoc.main(["", f"-I{protos}", f"-I{common}", f"--python_out={made}", *files]) == 0, "Istio's protobuf files do not compile"
        sys.path.insert(0, made)
        config = importlib.import_module("mesh.v1alpha1.config_pb2")
        try:
            json_format.ParseDict(values, config.MeshConfig())
            return []
        except json_format.ParseError as error:
            return [str(error)]


def wrong_with(thing, custom, folder):
    if set(thing) == {"meshConfig"}:
        return "MeshConfig", mesh_config(folder, thing["meshConfig"])
    api, kind = thing.get("apiVersion", ""), thing.get("kind", "")
    name = f"{kind} {(thing.get('metadata') or {}).get('name')}"
    schema = custom.schemas.get((api, kind))
    return name, custom.wrong(schema, thing) if schema else built_in(thing) if api and kind else ["it has no apiVersion, or no kind"]


def main():
    folder, files = pathlib.Path(sys.argv[1]), sys.argv[2:]
    assert files, "name a file"
    channels, failed = {}, False
    for file in files:
        channel, path = ("experimental", file.removeprefix("experimental:")) if file.startswith("experimental:") else ("gateway-api", file)
        if channel not in channels:
            channels[channel] = CustomResources(folder, channel)
        text = sys.stdin.read() if path == "-" else pathlib.Path(path).read_text()
        things = [thing for thing in yaml.load_all(text, Loader) if thing is not None]
        assert things, f"{path}: nothing is in it"
        for thing in things:
            name, wrong = wrong_with(thing, channels[channel], folder)
            failed |= bool(wrong)
            print(f"{path}: {name}: {'; '.join(wrong) or 'good'}")
    sys.exit(failed)


main()

"""The Helm chart, by Helm's own code and against Kubernetes' schemas: `.ci/chart.py CHART [init|ready]`.

`helm-python-sdk` has Helm 4 as a library, `kubernetes-validate` the schemas of each Kubernetes version. Prints what was
checked; the exit code is 1, and the reason on stderr, where something isn't as it should be. With `init` or `ready` it
prints the command that makes a trial's folder, or that a probe runs, a word a line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

INFORMATION = 1
"""Severity of what Helm only recommends."""
VERSIONS = ("1.27", "1.32", "1.37")
GIVEN = {"population": "readers", "name": "palate.example.org", "items": "a\nb\n"}
WITNESS = "witness.example/palate+5cec756a+AQOhB7 https://witness.example"
VALUES: dict[str, dict[str, Any]] = {
    "trial": {"server": GIVEN},
    "company": {"server": {**GIVEN, "profile": "company", "devices": 400}, "service": {"type": "ClusterIP"}},
    "public": {
        "server": {**GIVEN, "profile": "public", "devices": 20_000, "epsilon": 3.5, "witnesses": [WITNESS]},
        "storage": {"site": {"class": "fast"}, "plans": {"class": "other"}, "backups": {"class": "slow"}},
        "image": {"repository": "registry.example/palate", "tag": "1", "pullSecrets": [{"name": "registry"}]},
        "service": {"port": 443, "annotations": {"a": "b"}},
        "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}],
    },
    "own items, no backups": {"server": {**GIVEN, "items": "", "itemsConfigMap": "mine"}, "backup": {"schedule": ""}},
}  # fmt: skip
REFUSED: dict[str, dict[str, Any]] = {
    "no population": {"server": {**GIVEN, "population": ""}},
    "no name": {"server": {**GIVEN, "name": ""}},
    "no items": {"server": {**GIVEN, "items": ""}},
    "public and no witness": {"server": {**GIVEN, "profile": "public"}},
    "an unknown profile": {"server": {**GIVEN, "profile": "publix"}},
    "an unknown answer": {"server": {**GIVEN, "cohorts": 3}},
}


def objects(chart: Chart, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that a release consists of."""
    chart.validate_schema(values)
    rendered = chart.render(values, name="readers", namespace="palate", is_install=True)
    texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def restricted(kind: dict[str, Any]) -> Iterator[str]:
    """What a pod may that Kubernetes' restricted profile of pod security doesn't allow, or that it needn't."""
    pod = kind["spec"].get("jobTemplate", kind)["spec"]["template"]["spec"]
    if not pod["securityContext"]["runAsNonRoot"] or pod["automountServiceAccountToken"]:
        yield "the pod"
    for each in [*pod.get("initContainers", ()), *pod["containers"]]:
        said = each["securityContext"]
        if (
            said["allowPrivilegeEscalation"]
            or not said["readOnlyRootFilesystem"]
            or said["capabilities"] != {"drop": ["ALL"]}
        ):
            yield each["name"]
        volumes = {volume["name"] for volume in pod["volumes"]} | {
            claim["metadata"]["name"] for claim in kind["spec"].get("volumeClaimTemplates", ())
        }
        yield from (mount["name"] for mount in each["volumeMounts"] if mount["name"] not in volumes)


def main(folder: str) -> None:
    """Check a chart."""
    found = lint(folder, VALUES["trial"], strict=True)
    wrong = [each for each in found["messages"] if each["severity"] > INFORMATION] + found["errors"]
    if wrong:
        raise SystemExit(f"helm lint: {wrong}")
    with Chart.load(folder) as chart:
        for name, values in VALUES.items():
            made = objects(chart, values)
            for each in made:
                for version in VERSIONS:
                    kubernetes_validate.validate(each, version, strict=True)
                if each["kind"] in ("StatefulSet", "CronJob"):
                    wrong = list(restricted(each))
                    if wrong:
                        raise SystemExit(f"{each['metadata']['name']} may more than it needs: {wrong}")
            print(f"{name}: {', '.join(each['kind'] for each in made)}: valid for Kubernetes {', '.join(VERSIONS)}")
        for name, values in REFUSED.items():
            try:
                objects(chart, values)
            except HelmError as error:
                print(f"{name}: refused: {' '.join(str(error).split())[:160]}")
            else:
                raise SystemExit(f"{name}: must be refused")


def command(folder: str, which: str) -> list[str]:
    """The words of a command of a trial's pod."""
    with Chart.load(folder) as chart:
        [pod] = [each for each in objects(chart, VALUES["trial"]) if each["kind"] == "StatefulSet"]
    spec = pod["spec"]["template"]["spec"]
    [init], [server] = spec["initContainers"], spec["containers"]
    return [*init["command"], *init["args"]] if which == "init" else server["livenessProbe"]["exec"]["command"]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print("\n".join(command(*sys.argv[1:])))
    else:
        main(sys.argv[1])

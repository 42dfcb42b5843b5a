"""The versions of the real packs: their order and parent tags, as a person reads them off the packs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packregistry.versions import is_strict_semver, newest, parents, version_key

CORPUS = Path(__file__).resolve().parents[1].parent / "shared" / "corpus" / "packs"

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real packs is not beside the project"),
]

OLDEST_FIRST = {
    "akuity-agent": ["0.30.0-5.5.2026"],
    "antrea": ["1.9.0"],
    "avi": ["1.5.2", "1.9.2"],
    "ceph-rbd": ["3.11.0"],
    "cni-multus": ["3.4.0", "3.9.0"],
    "coder-chart": ["2.23.3"],
    "consul": ["1.3.0"],
    "cost-analyzer": ["1.103.3"],
    "crossplane": ["1.16.0", "1.20.0", "2.0.2", "2.1.0", "2.3.0"],
    "csi-driver-nfs": ["4.13.2"],
    "csi-nfs-subdir-external": ["4.0.13"],
    "csi-trident": ["23.07.1", "24.10.0", "25.06.0", "25.10.0", "26.02.1"],
    "csi-vsphere-noprovisioner": ["1.0.0"],
    "elastic-operator": ["2.12.1", "3.0.0", "3.4.0"],
    "elastic-stack": ["0.10.0", "0.15.0", "0.19.0"],
    "fluentbit": ["1.3.5", "1.9.6", "4.0.3", "4.2.3", "5.0.5"],
    "haproxy-unified-gateway": ["1.0.1"],
    "hello-universe": ["1.1.1", "1.1.2", "1.1.3", "1.2.0", "1.3.0", "1.3.1"],
    "hpe-csi-driver": ["3.1.0", "3.2.0"],
    "karpenter": ["1.0.5", "1.5.1"],
    "kubearmor": ["1.4.6"],
    "kubeflow-serving": ["1.5"],
    "kubevirt": ["0.55.0"],
    "kubevirt-csi-driver": ["1.0.0", "1.0.3"],
    "kyverno": ["1.12.2"],
    "lb-citrix-adc": ["1.7.6"],
    "local-ai": ["2.18.1", "2.23.0"],
    "nvidia-nvsentinel": ["v1.1.0"],
    "outcold-monitoring": ["5.0.0", "26.04.4"],
    "permission-manager": ["1.0.0"],
    "piraeus-operator": ["2.7.1", "2.9.0"],
    "spegel": ["0.0.18", "0.0.30", "0.7.0", "0.7.2"],
    "strimzi-kafka": ["0.40.0", "1.0.0"],
    "upbound-crossplane": ["2.0.1-up.1", "2.1.0-up.2"],
    "veeamkasten": ["8.0.14"],
    "weka-operator": ["v1.8.7"],
}

PARENTS = {
    "akuity-agent": {"0.x": "0.30.0-5.5.2026", "0.30.x": "0.30.0-5.5.2026"},
    "antrea": {"1.x": "1.9.0", "1.9.x": "1.9.0"},
    "avi": {"1.x": "1.9.2", "1.5.x": "1.5.2", "1.9.x": "1.9.2"},
    "ceph-rbd": {"3.x": "3.11.0", "3.11.x": "3.11.0"},
    "cni-multus": {"3.x": "3.9.0", "3.4.x": "3.4.0", "3.9.x": "3.9.0"},
    "coder-chart": {"2.x": "2.23.3", "2.23.x": "2.23.3"},
    "consul": {"1.x": "1.3.0", "1.3.x": "1.3.0"},
    "cost-analyzer": {"1.x": "1.103.3", "1.103.x": "1.103.3"},
    "crossplane": {
        "1.x": "1.20.0",
        "1.16.x": "1.16.0",
        "1.20.x": "1.20.0",
        "2.x": "2.3.0",
        "2.0.x": "2.0.2",
        "2.1.x": "2.1.0",
        "2.3.x": "2.3.0",
    },
    "csi-driver-nfs": {"4.x": "4.13.2", "4.13.x": "4.13.2"},
    "csi-nfs-subdir-external": {"4.x": "4.0.13", "4.0.x": "4.0.13"},
    "csi-trident": {
        "23.x": "23.07.1",
        "23.07.x": "23.07.1",
        "24.x": "24.10.0",
        "24.10.x": "24.10.0",
        "25.x": "25.10.0",
        "25.06.x": "25.06.0",
        "25.10.x": "25.10.0",
        "26.x": "26.02.1",
        "26.02.x": "26.02.1",
    },
    "csi-vsphere-noprovisioner": {"1.x": "1.0.0", "1.0.x": "1.0.0"},
    "elastic-operator": {
        "2.x": "2.12.1",
        "2.12.x": "2.12.1",
        "3.x": "3.4.0",
        "3.0.x": "3.0.0",
        "3.4.x": "3.4.0",
    },
    "elastic-stack": {"0.x": "0.19.0", "0.10.x": "0.10.0", "0.15.x": "0.15.0", "0.19.x": "0.19.0"},
    "fluentbit": {
        "1.x": "1.9.6",
        "1.3.x": "1.3.5",
        "1.9.x": "1.9.6",
        "4.x": "4.2.3",
        "4.0.x": "4.0.3",
        "4.2.x": "4.2.3",
        "5.x": "5.0.5",
        "5.0.x": "5.0.5",
    },
    "haproxy-unified-gateway": {"1.x": "1.0.1", "1.0.x": "1.0.1"},
    "hello-universe": {"1.x": "1.3.1", "1.1.x": "1.1.3", "1.2.x": "1.2.0", "1.3.x": "1.3.1"},
    "hpe-csi-driver": {"3.x": "3.2.0", "3.1.x": "3.1.0", "3.2.x": "3.2.0"},
    "karpenter": {"1.x": "1.5.1", "1.0.x": "1.0.5", "1.5.x": "1.5.1"},
    "kubearmor": {"1.x": "1.4.6", "1.4.x": "1.4.6"},
    "kubeflow-serving": {"1.x": "1.5", "1.5.x": "1.5"},
    "kubevirt": {"0.x": "0.55.0", "0.55.x": "0.55.0"},
    "kubevirt-csi-driver": {"1.x": "1.0.3", "1.0.x": "1.0.3"},
    "kyverno": {"1.x": "1.12.2", "1.12.x": "1.12.2"},
    "lb-citrix-adc": {"1.x": "1.7.6", "1.7.x": "1.7.6"},
    "local-ai": {"2.x": "2.23.0", "2.18.x": "2.18.1", "2.23.x": "2.23.0"},
    "nvidia-nvsentinel": {"1.x": "v1.1.0", "1.1.x": "v1.1.0"},
    "outcold-monitoring": {"5.x": "5.0.0", "5.0.x": "5.0.0", "26.x": "26.04.4", "26.04.x": "26.04.4"},
    "permission-manager": {"1.x": "1.0.0", "1.0.x": "1.0.0"},
    "piraeus-operator": {"2.x": "2.9.0", "2.7.x": "2.7.1", "2.9.x": "2.9.0"},
    "spegel": {"0.x": "0.7.2", "0.0.x": "0.0.30", "0.7.x": "0.7.2"},
    "strimzi-kafka": {"0.x": "0.40.0", "0.40.x": "0.40.0", "1.x": "1.0.0", "1.0.x": "1.0.0"},
    "upbound-crossplane": {"2.x": "2.1.0-up.2", "2.0.x": "2.0.1-up.1", "2.1.x": "2.1.0-up.2"},
    "veeamkasten": {"8.x": "8.0.14", "8.0.x": "8.0.14"},
    "weka-operator": {"1.x": "v1.8.7", "1.8.x": "v1.8.7"},
}

NOT_STRICT = ["1.5", "23.07.1", "25.06.0", "26.02.1", "26.04.4", "v1.1.0", "v1.8.7"]


def corpus() -> list[tuple[str, str, str]]:
    """(name, group, version) of every pack of the corpus; a group of only blanks is none."""
    found = []
    for path in CORPUS.glob("*/pack.json"):
        pack = json.loads(path.read_bytes())
        found.append((pack["name"], pack.get("group", "").strip(), pack["version"]))
    return found


def versions_by_name() -> dict[str, list[str]]:
    """Every version of the corpus by pack name, in no order that helps: reversed text."""
    found: dict[str, list[str]] = {}
    for name, _, version in sorted(corpus(), reverse=True):
        found.setdefault(name, []).append(version)
    return found


def test_the_table_covers_the_whole_corpus() -> None:
    packs = corpus()
    assert len(packs) == sum(1 for path in CORPUS.iterdir() if path.is_dir()) == 70
    assert sum(len(versions) for versions in OLDEST_FIRST.values()) == len(packs)
    assert {group for _, group, _ in packs} == {""}


def test_real_versions_are_ordered_as_a_person_orders_them() -> None:
    found = versions_by_name()
    assert {name: sorted(versions, key=version_key) for name, versions in found.items()} == OLDEST_FIRST
    assert {name: newest(versions) for name, versions in found.items()} == {
        name: versions[-1] for name, versions in OLDEST_FIRST.items()
    }


def test_real_versions_have_the_parent_tags_a_person_expects() -> None:
    """In this order too: parents of a number stand together, the widest first."""
    found = {name: list(parents(versions).items()) for name, versions in versions_by_name().items()}
    assert found == {name: list(expected.items()) for name, expected in PARENTS.items()}


def test_the_lenient_versions_of_the_corpus_are_these() -> None:
    assert sorted({version for _, _, version in corpus() if not is_strict_semver(version)}) == NOT_STRICT

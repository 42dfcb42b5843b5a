"""What is in `deploy/` is valid, locked down, and says the same as the image, the configuration and the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from packregistry import __version__, config
from packregistry.config import Config
from packregistry.web.routes import routes
from tests.cli import cli
from tests.process import DEADLINE

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
EXAMPLE = DEPLOY / "kubernetes" / "overlays" / "example"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CONFIG_PATH = "/etc/spectro/config.yml"
SERVERS = ["http", "https"]
LABELS = {"app.kubernetes.io/name": "packregistry", "app.kubernetes.io/instance": "packregistry"}


def files(*suffixes: str) -> list[Path]:
    return sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix in suffixes)


def named(paths: Iterable[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(DEPLOY))) for path in paths])


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def loaded(path: Path, env: Mapping[str, str]) -> Config:
    """The configuration of a server started so; a variable or key that does not exist is an error."""
    found = config.load(path, env, {})
    assert found.warnings == ()
    return found.config


def is_below(path: Path | None, directories: Iterable[str]) -> bool:
    return path is not None and any(path.is_relative_to(directory) for directory in directories)


def instruction(name: str) -> str:
    """The last of the Dockerfile's instructions of a name: that is the one in force."""
    found: list[str] = re.findall(rf"^{name}\s+(.+?)\s*$", DOCKERFILE, re.MULTILINE)
    return found[-1]


def tool(name: str) -> str:
    """A program that the extra `deploy` installs beside the interpreter."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[deploy]'")
    return found


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    arguments = list(map(str, command))
    return subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE, cwd=cwd, check=False)


COMPOSE: dict[str, Any] = read(DEPLOY / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
STATEFULSET: dict[str, Any] = read(BASE / "statefulset.yaml")
POD: dict[str, Any] = STATEFULSET["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]
POLICY: dict[str, Any] = read(BASE / "networkpolicy.yaml")
PATCH: dict[str, Any] = read(EXAMPLE / "statefulset.yaml")


@named(files(".yaml", ".yml"))
def test_every_file_is_yaml_with_something_in_it(path: Path) -> None:
    assert isinstance(read(path), dict)


@named(files(".yaml", ".yml", ".service", ".env", ".sysusers", ".md"))
def test_nobody_gets_a_user_that_others_know(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\$(2[aby]|5|6|apr1)\$|kind: Secret", text)


def test_the_index_has_links_to_all_there_is() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (DEPLOY / "README.md").read_text())
    assert all((DEPLOY / link).exists() for link in links)
    ours = {str(path.relative_to(DEPLOY).parent) for path in files(".yaml", ".service")} - {"."}
    assert ours <= set(links)


def test_the_image_is_the_one_that_these_files_are_for() -> None:
    assert (instruction("USER"), instruction("EXPOSE")) == ("65532:0", "5000")
    assert CONFIG_PATH in DOCKERFILE


# Docker Compose


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_as_little_as_possible(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == instruction("USER")
    assert service["image"] == f"packregistry:{__version__}"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "tmpfs", "pid", "ipc", "devices"}
    assert service["profiles"] == [name], "nothing starts that nobody asked for"


@pytest.mark.parametrize("name", SERVERS)
def test_a_composed_server_finds_mounted_all_that_its_configuration_names(name: str) -> None:
    service = SERVICES[name]
    written = {volume["target"] for volume in service["volumes"] if not volume.get("read_only")}
    mounts = {volume["target"] for volume in service["volumes"]}
    settings = loaded(DEPLOY / "config.yml", service["environment"])
    assert written == {"/data"}
    assert is_below(settings.storage.filesystem.rootdirectory, written)
    assert settings.auth.mode == "htpasswd"
    assert is_below(settings.auth.htpasswd.path, {"/auth"} & mounts)
    assert settings.packs.directories == (Path("/packs"),)
    assert "/packs" in mounts
    assert service["ports"][0].endswith(f"}}:{settings.http.addr.port}")
    tls = settings.http.tls
    assert [is_below(path, mounts) for path in (tls.certificate, tls.key)] == [name == "https"] * 2


def test_without_tls_only_this_machine_is_listened_to() -> None:
    assert [SERVICES[name]["ports"] for name in SERVERS] == [
        ["${PUBLISH:-127.0.0.1:5000}:5000"],
        ["${PUBLISH:-5000}:5000"],
    ]


def test_directories_are_mounted_and_have_to_be_there() -> None:
    binds = [volume for service in SERVICES.values() for volume in service["volumes"] if volume["type"] == "bind"]
    assert {volume["source"] for volume in binds} == {"./auth", "./certs", "./packs"}
    assert all(volume["bind"] == {"create_host_path": False} for volume in binds)
    assert COMPOSE["volumes"].keys() == {"data"}


def test_the_image_says_how_a_server_is_checked_and_the_engine_starts_it_again() -> None:
    for name in SERVERS:
        assert "healthcheck" not in SERVICES[name]
        assert SERVICES[name]["restart"] == "unless-stopped"


def test_users_are_made_in_the_file_that_servers_read() -> None:
    users = SERVICES["users"]
    assert users["environment"] == SERVICES["http"]["environment"]
    assert [(volume["target"], "read_only" in volume) for volume in users["volumes"]] == [("/auth", False)]


@pytest.mark.parametrize(
    ("limit", "settings"),
    [
        pytest.param(SERVICES["http"]["stop_grace_period"], DEPLOY / "config.yml", id="compose-http"),
        pytest.param(SERVICES["https"]["stop_grace_period"], DEPLOY / "config.yml", id="compose-https"),
        pytest.param("{terminationGracePeriodSeconds}s".format(**POD), BASE / "config.yml", id="kubernetes"),
    ],
)
def test_requests_have_their_time_to_end_before_a_container_is_killed(limit: str, settings: Path) -> None:
    assert re.fullmatch(r"\d+s", limit)
    assert int(limit[:-1]) >= loaded(settings, {}).http.draintimeout + 10


@pytest.mark.real
@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_docker_compose_reads_it_as_it_is_meant(name: str) -> None:
    done = run(tool("docker-compose"), "-f", DEPLOY / "compose.yaml", "--profile", name, "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    service = json.loads(done.stdout)["services"][name]
    written = [volume["target"] for volume in service["volumes"] if not volume.get("read_only")]
    assert written == (["/data"] if name in SERVERS else ["/auth"])
    assert service["read_only"] is True
    assert service["environment"] == SERVICES[name]["environment"]
    ports = [(port.get("host_ip"), port["published"], port["target"]) for port in service.get("ports", [])]
    assert ports == {"http": [("127.0.0.1", "5000", 5000)], "https": [(None, "5000", 5000)]}.get(name, [])


# Kubernetes


def variables() -> dict[str, str]:
    container = PATCH["spec"]["template"]["spec"]["containers"][0]
    assert container["name"] == CONTAINER["name"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_a_pod_may_do_as_little_as_possible() -> None:
    user, _, group = instruction("USER").partition(":")
    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(group),
        "fsGroup": int(user),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False
    assert len(POD["containers"]) == 1


def test_a_pod_is_the_only_one_on_its_volume() -> None:
    assert STATEFULSET["kind"] == "StatefulSet"
    assert STATEFULSET["spec"]["replicas"] == 1
    claim = STATEFULSET["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["metadata"]["name"] == "data"


def test_a_pod_finds_mounted_all_that_its_configuration_names() -> None:
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    settings = loaded(BASE / "config.yml", {})
    assert mounts["config"]["mountPath"] + "/config.yml" == CONFIG_PATH
    assert is_below(settings.storage.filesystem.rootdirectory, [mounts["data"]["mountPath"]])
    assert settings.auth.mode == "htpasswd"
    assert settings.auth.htpasswd.path == Path(mounts["users"]["mountPath"]) / "htpasswd-basic"
    assert [name for name, mount in mounts.items() if not mount.get("readOnly")] == ["data"]
    assert not any("subPath" in mount for mount in mounts.values()), "a changed Secret would not be seen"
    assert {volume["name"] for volume in POD["volumes"]} == mounts.keys() - {"data"}


def test_the_port_is_the_same_everywhere() -> None:
    port = int(instruction("EXPOSE"))
    service = read(BASE / "service.yaml")["spec"]["ports"]
    backend = read(BASE / "ingress.yaml")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert loaded(BASE / "config.yml", {}).http.addr.port == port
    assert CONTAINER["ports"] == [{"name": "http", "containerPort": port}]
    assert service == [{"name": "http", "port": port, "targetPort": "http"}]
    assert backend == {"name": "packregistry", "port": {"name": "http"}}
    for policy in (POLICY, read(EXAMPLE / "networkpolicy.yaml")):
        assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"protocol": "TCP", "port": port}]]


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
)
def test_probes_ask_what_the_server_answers_to_everybody(probe: str, path: str) -> None:
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "http"}
    assert [str(route.access.name) for route in routes() if (route.method, route.path) == ("GET", path)] == ["PUBLIC"]


def test_every_object_selects_the_pod() -> None:
    budget = read(BASE / "poddisruptionbudget.yaml")["spec"]
    assert STATEFULSET["spec"]["selector"]["matchLabels"] == LABELS
    assert read(BASE / "service.yaml")["spec"]["selector"] == LABELS
    assert POLICY["spec"]["podSelector"]["matchLabels"] == LABELS
    assert budget["selector"]["matchLabels"] == LABELS
    assert budget["maxUnavailable"] == 1, "one pod that must be available keeps a node from being drained"


def test_nothing_goes_out_but_questions_for_names() -> None:
    assert POLICY["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ports = [(port["protocol"], port["port"]) for rule in POLICY["spec"]["egress"] for port in rule["ports"]]
    assert ports == [("UDP", 53), ("TCP", 53)]
    assert all(rule["to"] for rule in POLICY["spec"]["egress"])


def test_every_file_of_the_base_and_of_the_example_is_used() -> None:
    for directory in (BASE, EXAMPLE):
        made = read(directory / "kustomization.yaml")
        used = {"kustomization.yaml", *made["resources"]}
        used |= {patch["path"] for patch in made.get("patches", []) if "path" in patch}
        used |= {name for generator in made.get("configMapGenerator", []) for name in generator["files"]}
        assert {path.name for path in directory.glob("*.y*ml")} == used - {"../../base"}


def test_the_example_trusts_a_proxy_that_nobody_else_can_pretend_to_be() -> None:
    settings = loaded(BASE / "config.yml", variables())
    assert [str(network) for network in settings.http.trustedproxies] == ["10.244.0.0/16"]
    senders = read(EXAMPLE / "networkpolicy.yaml")["spec"]["ingress"][0]["from"]
    assert senders == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}]


def test_the_example_s_users_stay_out_of_git() -> None:
    secret = read(EXAMPLE / "kustomization.yaml")["secretGenerator"][0]
    assert secret["name"] == POD["volumes"][1]["secret"]["secretName"]
    assert (EXAMPLE / ".gitignore").read_text() == "".join(f"/{name}\n" for name in secret["files"])


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """A copy of the example, without users."""
    ignored = shutil.ignore_patterns("htpasswd-basic")
    return shutil.copytree(DEPLOY / "kubernetes", tmp_path / "k", ignore=ignored) / EXAMPLE.relative_to(BASE.parent)


def add_user(overlay: Path) -> None:
    made = cli("user", "add", "admin", "--file", overlay / "htpasswd-basic", "--generate", "--cost", "8")
    assert made.exit_code == 0, made.stderr


def built(directory: Path) -> list[dict[str, Any]]:
    done = run(tool("kubectl"), "kustomize", directory)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def labels_of(thing: Any) -> Iterable[str]:
    """The keys of all labels in an object."""
    if isinstance(thing, dict):
        yield from thing.get("labels") or ()
        thing = list(thing.values())
    if isinstance(thing, list):
        for part in thing:
            yield from labels_of(part)


@pytest.mark.real
@pytest.mark.thorough
@pytest.mark.parametrize("version", ["1.27", "1.37"])
@pytest.mark.parametrize("name", ["base", "example"])
def test_what_kustomize_builds_is_what_kubernetes_takes(tmp_path: Path, overlay: Path, name: str, version: str) -> None:
    add_user(overlay)
    built_of = {"base": BASE, "example": overlay}[name]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(built(built_of)))
    done = run(tool("kubernetes-validate"), "--strict", "-k", version, tmp_path / "objects.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
@pytest.mark.thorough
def test_the_example_is_the_base_with_the_names_of_a_site(overlay: Path) -> None:
    add_user(overlay)
    objects = {made["kind"]: made for made in built(overlay)}
    assert {made["metadata"].get("namespace") for made in objects.values()} == {"packregistry", None}
    users, settings = objects["Secret"], objects["ConfigMap"]
    volumes = objects["StatefulSet"]["spec"]["template"]["spec"]["volumes"]
    assert [volumes[0]["configMap"]["name"], volumes[1]["secret"]["secretName"]] == [
        settings["metadata"]["name"],
        users["metadata"]["name"],
    ]
    assert users["data"].keys() == {"htpasswd-basic"}
    assert settings["data"] == {"config.yml": (BASE / "config.yml").read_text()}
    claim = objects["StatefulSet"]["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["storageClassName"] == "standard"
    assert "app.kubernetes.io/version" not in claim["metadata"]["labels"], "it could never be upgraded"
    image = objects["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example/tools/packregistry:{__version__}"
    ingress = objects["Ingress"]["spec"]
    assert [ingress["rules"][0]["host"]] == ingress["tls"][0]["hosts"]
    for made in objects.values():
        assert made["metadata"]["labels"].items() >= LABELS.items()
    foreign = {key for key in labels_of(list(objects.values())) if not key.startswith("app.kubernetes.io/")}
    assert foreign == {"pod-security.kubernetes.io/enforce"}
    assert objects["Service"]["metadata"]["labels"]["app.kubernetes.io/version"] == __version__


@pytest.mark.real
@pytest.mark.thorough
def test_without_users_the_example_is_not_built(overlay: Path) -> None:
    done = run(tool("kubectl"), "kustomize", overlay)
    assert done.returncode != 0
    assert "htpasswd-basic: no such file" in done.stderr

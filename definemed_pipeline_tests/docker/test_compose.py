"""compose.yaml: valid, closed to other machines, ordered by health, its secrets in a file that is not committed."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from compose_spec import PyCompose
from dotenv import dotenv_values

from definemed_pipeline_tests.docker.files import DOCKER, REPOSITORY, VARIABLE, instructions, objects_of

TEXT = (DOCKER / "compose.yaml").read_text("utf-8")
EXAMPLE = dotenv_values(DOCKER / ".env.example")


def interpolated(environment):
    """Fill in variables as compose does: `:-` gives a default, `:?` refuses what is empty."""

    def value(found):
        known = environment.get(found["name"]) or ""
        if not known and found["kind"] == "?":
            raise ValueError(f"{found['name']}: {found['text']}")
        return known or (found["text"] if found["kind"] == "-" else "") or ""

    return yaml.safe_load(VARIABLE.sub(value, TEXT))


@pytest.fixture
def compose():
    filled = {name: value or "a-secret" for name, value in EXAMPLE.items()}
    return {key: part for key, part in interpolated(filled).items() if not key.startswith("x-")}


def test_it_fits_the_compose_specification(compose):
    parsed = PyCompose.from_yaml(yaml.safe_dump(compose))
    assert sorted(parsed.service_names()) == ["code-location", "daemon", "object-store", "postgres", "prepare", "webserver"]


def test_the_specification_is_really_held(compose):
    compose["services"]["postgres"]["healthcheck"]["intervall"] = "5s"
    with pytest.raises(ValueError, match="intervall"):
        PyCompose.from_yaml(yaml.safe_dump(compose))


def test_every_variable_stands_in_the_example_and_every_secret_is_asked_for():
    used = {found["name"]: found["kind"] for found in VARIABLE.finditer(TEXT)}
    assert set(used) == set(EXAMPLE)
    empty = {name for name, value in EXAMPLE.items() if not value}
    assert empty == {"POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}
    assert {name for name in empty if used[name] == "?"} == empty - {"HF_TOKEN"}  # which may stay empty
    with pytest.raises(ValueError, match=r"set it in docker/\.env"):
        interpolated(EXAMPLE)


def test_the_secrets_are_not_committed():
    ignored = subprocess.run(["git", "check-ignore", "docker/.env"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if ignored.returncode == 128:
        pytest.skip("not a git checkout")
    assert ignored.stdout.strip() == "docker/.env"


def test_nothing_is_reached_from_other_machines(compose):
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert ports == {"webserver": ["127.0.0.1:3000:3000"], "object-store": ["127.0.0.1:8333:8333"]}
    assert not any("network_mode" in service for service in compose["services"].values())


def test_every_image_is_pinned_or_built_here(compose):
    for name, service in compose["services"].items():
        if "build" in service:
            dockerfile = REPOSITORY / service["build"]["dockerfile"]
            assert dockerfile.is_file()
            arguments = {rest.split("=")[0] for word, rest in instructions(dockerfile) if word == "ARG"}
            assert set(service["build"]["args"]) <= arguments
        else:
            assert re.fullmatch(r"docker\.io/[\w/.-]+:\d+\.\d+(\.\d+)?", service["image"]), name


def test_our_own_containers_have_no_rights_they_do_not_need(compose):
    for service in compose["services"].values():
        assert "privileged" not in service
        assert "docker.sock" not in json.dumps(service)
        if "build" in service:
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_service_waits_until_those_it_needs_are_healthy(compose):
    services = compose["services"]
    waits = {
        name: {other: one["condition"] for other, one in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["prepare"] == {"postgres": "service_healthy", "object-store": "service_healthy"}
    assert waits["code-location"] == {"prepare": "service_completed_successfully"}
    assert waits["webserver"] == waits["daemon"] == {"code-location": "service_healthy"}
    for conditions in waits.values():
        for other, condition in conditions.items():
            if condition == "service_healthy":
                service = services[other]
                of_the_image = "build" in service and any(
                    word == "HEALTHCHECK" for word, _ in instructions(REPOSITORY / service["build"]["dockerfile"])
                )
                assert "test" in service.get("healthcheck", {}) or of_the_image


def test_what_outlives_a_container_lies_in_a_volume(compose):
    mounted = {mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])}
    assert set(compose["volumes"]) == mounted - {"./recipes"}


def test_every_variable_of_the_instance_is_given_to_whoever_loads_it(compose):
    asked = set(re.findall(r"env: (\w+)", (DOCKER / "dagster.yaml").read_text("utf-8")))
    assert len(asked) == 6
    for name in ("prepare", "code-location", "webserver", "daemon"):
        assert asked <= set(compose["services"][name]["environment"])
    for name in ("webserver", "daemon"):
        assert {"DEFINEMED_CODE_HOST", "DEFINEMED_CODE_PORT"} <= set(compose["services"][name]["environment"])


def test_the_bucket_is_made_once_and_the_lake_lies_in_it(compose, bucket):
    """The command that compose gives the container, against an S3 server."""
    import s3fs

    environment = compose["services"]["prepare"]["environment"]
    name = f"{bucket.split('/')[2]}-logs"
    code = re.search(r'python -c "(.+?)" &&', compose["services"]["prepare"]["command"][2])[1]
    for _ in range(2):  # compose runs it at every start
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "DAGSTER_LOGS_BUCKET": name}, check=True)
    assert s3fs.S3FileSystem().exists(name)
    (job,) = objects_of("Job")  # the cluster's way to the same
    assert job["spec"]["template"]["spec"]["containers"][0]["command"] == ["python", "-c", code]
    assert compose["services"]["code-location"]["environment"]["DEFINEMED_LAKE"].startswith(
        f"s3://{environment['DAGSTER_LOGS_BUCKET']}/"
    )

"""The Dockerfiles: pinned, non-root, small, without secrets. That they build is shown by docker/build_with_buildah.sh, which takes minutes."""

import fnmatch
import re
import subprocess
import tomllib

import pytest

from definemed_pipeline_tests.docker.files import DOCKER, REPOSITORY, instructions

DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
IMAGES = ["trainer", "user_code", "webserver"]
by_image = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)


def last_stage(dockerfile):
    found = instructions(dockerfile)
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


def test_there_are_three_images():
    assert [path.stem for path in DOCKERFILES] == IMAGES


@by_image
def test_an_image_is_built_in_two_stages_from_bases_that_are_arguments_with_pinned_public_defaults(dockerfile):
    found = instructions(dockerfile)
    bases = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert len(bases) == 2
    defaults = dict(rest.split("=", 1) for word, rest in found if word == "ARG" and "=" in rest)
    for base in bases:
        image = defaults[base.removeprefix("${").removesuffix("}")]
        assert re.fullmatch(r"docker\.io/[\w/.-]+:[\w.-]+", image)
        assert not image.endswith(":latest")


@by_image
def test_an_image_runs_as_a_numbered_user_that_is_not_root(dockerfile):
    """Kubernetes' runAsNonRoot believes numbers only."""
    stage = last_stage(dockerfile)
    users = [rest for word, rest in stage if word == "USER"]
    assert users == ["10001:10001"]
    after = stage[stage.index(("USER", "10001:10001")) :]
    assert "RUN" not in {word for word, _ in after}


@by_image
def test_every_package_is_pinned_by_the_constraints(dockerfile):
    installs = re.findall(r"pip install [^&]*", " && ".join(rest for word, rest in instructions(dockerfile) if word == "RUN"))
    assert len(installs) >= 2
    for install in installs:
        pins_itself = re.search(r" pip==[\d.]+\s*$", install.rstrip())
        only_ours = "--no-deps" in install
        assert pins_itself or only_ours or "--constraint constraints.txt" in install, install


@by_image
def test_an_image_says_how_its_health_is_asked(dockerfile):
    checks = [rest for word, rest in last_stage(dockerfile) if word == "HEALTHCHECK"]
    assert len(checks) == 1
    if dockerfile.stem == "trainer":  # a job that ends
        assert checks == ["NONE"]
    else:
        assert "CMD [" in checks[0]
        assert "--start-period" in checks[0]


@by_image
def test_an_image_names_its_version_and_revision(dockerfile):
    stage = last_stage(dockerfile)
    (labels,) = (rest for word, rest in stage if word == "LABEL")
    for name in ("version", "revision"):
        assert f'org.opencontainers.image.{name}="${{{name.upper()}}}"' in labels
    assert {"VERSION", "REVISION"} <= {rest.split("=")[0] for word, rest in stage if word == "ARG"}


@pytest.mark.parametrize("image", ["trainer", "user_code"])
def test_a_manifest_names_the_revision_of_the_image(image):
    assert ("ENV", "DEFINEMED_COMMIT=${REVISION}") in last_stage(DOCKER / f"{image}.Dockerfile")


@by_image
def test_no_secret_enters_an_image(dockerfile):
    for word, rest in instructions(dockerfile):
        if word in ("ARG", "ENV"):
            assert not re.search(r"TOKEN|PASSWORD|SECRET|ACCESS_KEY|API_KEY", rest.upper()), rest
        if word in ("COPY", "ADD"):
            assert ".env" not in rest
            assert word == "COPY", "ADD fetches and unpacks"


@by_image
def test_the_version_is_the_packages(dockerfile):
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert ("ARG", f"VERSION={version}") in last_stage(dockerfile)


def test_the_context_holds_the_package_and_little_else():
    """Docker sends what .dockerignore lets through: here all is left out, and a few are let in again."""
    rules = [line for line in (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.splitlines()
    if not tracked:
        pytest.skip("not a git checkout")
    sent = [name for name in tracked if any(name == one or fnmatch.fnmatch(name, f"{one}/*") for one in let_in)]
    assert sum((REPOSITORY / name).stat().st_size for name in sent) < 2_000_000
    for dockerfile in DOCKERFILES:
        for word, rest in instructions(dockerfile):
            if word == "COPY" and "--from" not in rest:
                for name in rest.split()[:-1]:
                    assert any(one == name or one.startswith(f"{name}/") for one in sent), f"{dockerfile.name} copies {name}"

#!/usr/bin/env bash
# Build the three images where no Docker engine runs and no registry is reached, and try each: Debian's buildah on a debootstrapped base.
#
#   docker/build_with_buildah.sh [webserver] [user_code] [trainer]      all three without an argument
#
# Needs root, the Debian packages buildah and debootstrap, a package index, and some 20 GB for the time it runs. The trainer is built without CUDA, from
# the same base as the others. Nothing is left behind but what is printed. From the environment:
#   WORK           where all of it lies until the end (a new folder below TMPDIR)
#   PIP_CONF       a pip.conf to build with, as where an index stands behind a private authority
#   BUILD_OPTIONS  further options of `buildah build`, such as --volume /etc/ssl/certs:/etc/ssl/certs:ro
#   TORCH_INDEX    the index that torch is taken from, for user code and trainer (see their Dockerfiles)
#   LAKE           a finished local lake, such as `definemed demo` leaves: its first pre-training is repeated in the trainer's image
#   KEEP           not empty: leave the images in WORK
set -euo pipefail
cd "$(dirname "$0")/.."
WORK=${WORK:-$(mktemp -d)}
BASE=localhost/debian-python
buildah() { command buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver=vfs "$@"; }
options=(--isolation=chroot --network=host --format=docker --layers=false ${BUILD_OPTIONS:-})
[[ -n ${PIP_CONF:-} ]] && options+=(--volume "$PIP_CONF:/etc/pip.conf:ro")
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

clean_up() {
    buildah rm --all >/dev/null 2>&1 || true
    [[ -n ${KEEP:-} ]] || rm -rf "$WORK"
}
trap clean_up EXIT

make_base() {
    buildah inspect --type image "$BASE" >/dev/null 2>&1 && return
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$WORK/base" >"$WORK/debootstrap.log" 2>&1
    rm -rf "$WORK"/base/var/cache/apt/archives/*.deb
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$WORK/base" / >/dev/null
    buildah commit --quiet --rm "$container" "$BASE" >/dev/null
    rm -rf "$WORK/base"
}

build() { # image, then build arguments
    local name=$1 begun=$SECONDS
    shift
    buildah build "${options[@]}" --build-arg REVISION="$revision" "$@" --file "docker/$name.Dockerfile" --tag "localhost/definemed-$name" . >"$WORK/$name.log" 2>&1 ||
        { tail -n 30 "$WORK/$name.log" >&2; exit 1; }
    local container bytes
    container=$(buildah from "localhost/definemed-$name")
    bytes=$(du -sb --apparent-size "$(buildah mount "$container")" | cut -f1)
    echo "$name: built in $((SECONDS - begun)) s, $((bytes / 1000000)) MB"
    printf -v "container_$name" %s "$container"
}

inside() { # container, then a command, as the image's own user
    buildah run --isolation=chroot "$@"
}

try_webserver() {
    build webserver --build-arg PYTHON_IMAGE="$BASE"
    inside "$container_webserver" -- sh -c '[ "$(id -u)" = 10001 ] && dagster-webserver --version && dagster-daemon --version && ! python -c "import torch" 2>/dev/null'
}

try_user_code() {
    build user_code --build-arg PYTHON_IMAGE="$BASE" ${TORCH_INDEX:+--build-arg TORCH_INDEX="$TORCH_INDEX"}
    inside "$container_user_code" -- definemed recipe check demo
    inside "$container_user_code" -- sh -c 'DEFINEMED_LAKE=/scratch/lake DAGSTER_HOME=/tmp dagster definitions validate -m definemed_pipeline.definitions 2>&1 | tail -n 2'
}

try_trainer() {
    build trainer --build-arg CUDA_IMAGE="$BASE" --build-arg DEPENDENCIES=trainer ${TORCH_INDEX:+--build-arg TORCH_INDEX="$TORCH_INDEX"}
    inside "$container_trainer" -- sh -c '[ "$(id -u)" = 10001 ] && ! python -c "import dagster" 2>/dev/null && ! python -c "import polars" 2>/dev/null'
    local status=0
    inside "$container_trainer" -- sh -c 'echo "{\"lake\": \"/scratch/lake\"}" >/tmp/spec.json; exec python -m definemed_pipeline.training.cpt --spec /tmp/spec.json' || status=$?
    [[ $status == 64 ]] || { echo "a wrong spec ended with status $status, not 64" >&2; exit 1; }
    echo "trainer: a wrong spec ends with status 64"
    [[ -z ${LAKE:-} ]] || train_again
}

# The first continual pre-training of a finished lake once more, in the image: it has to end with the very same bytes.
train_again() {
    mkdir "$WORK/training"
    cp -r "$LAKE" "$WORK/training/lake"
    python3 - "$WORK/training" <<'PYTHON'
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
found = sorted((folder / "lake/.scratch/payloads/cpt_checkpoints").glob("*.spec.json"))[0]
spec = json.loads(found.read_text()) | {"lake": "/training/lake", "scratch": "/training/lake/.scratch", "force": True}
(folder / "spec.json").write_text(json.dumps(spec))
PYTHON
    chown -R 10001:10001 "$WORK/training"
    local begun=$SECONDS
    inside --volume "$WORK/training:/training" "$container_trainer" -- python -m definemed_pipeline.training.cpt --spec /training/spec.json
    local pointers=("$LAKE"/cpt_checkpoints/*/latest-*.json)
    for pointer in "${pointers[@]}"; do
        cmp "$pointer" "$WORK/training/lake/${pointer#"$LAKE"/}"
    done
    grep -l "\"code_commit\": \"$revision\"" -r "$WORK/training/lake/cpt_checkpoints" --include=manifest.json >/dev/null
    echo "trainer: trained in $((SECONDS - begun)) s to the same bytes as outside of the image"
}

make_base
for name in "${@:-webserver user_code trainer}"; do
    for one in $name; do "try_$one"; done
done

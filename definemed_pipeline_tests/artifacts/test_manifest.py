"""Identities and manifests: versions follow from inputs, and nothing is lost on the way through JSON."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from definemed_pipeline.artifacts.manifest import File, Identity, Input, Manifest, Provenance, Source, content_digest

words = st.text("abcdef0123456789", min_size=1, max_size=8)
inputs = st.builds(Input, asset=words, partition=words, version=words, digest=words)
sources = st.builds(Source, name=words, location=words, digest=words)
identities = st.builds(
    Identity,
    asset=words,
    partition=words,
    code_version=words,
    settings=st.dictionaries(words, st.integers()),
    settings_digest=words,
    inputs=st.lists(inputs, max_size=4).map(tuple),
    sources=st.lists(sources, max_size=3).map(tuple),
)


@given(identities, st.randoms())
def test_the_order_of_inputs_does_not_change_the_version(identity, random):
    shuffled = list(identity.inputs)
    random.shuffle(shuffled)
    assert dataclasses.replace(identity, inputs=tuple(shuffled)).version == identity.version


@given(identities, words)
def test_another_input_digest_is_another_version(identity, digest):
    extra = Input(asset="a", partition="_", version="v", digest=digest)
    assert dataclasses.replace(identity, inputs=(*identity.inputs, extra)).version != identity.version


@given(identities, words)
def test_where_a_source_lies_does_not_change_the_version_but_its_bytes_do(identity, word):
    here = dataclasses.replace(identity, sources=(Source(name="gold", location="here", digest="1"),))
    there = dataclasses.replace(identity, sources=(Source(name="gold", location="there", digest="1"),))
    other = dataclasses.replace(identity, sources=(Source(name="gold", location="here", digest="2"),))
    assert here.version == there.version != other.version


@given(identities)
def test_a_manifest_survives_json(identity):
    files = (File(path="a.parquet", bytes=3, sha256="x", rows=1), File(path="b", bytes=0, sha256="y"))
    manifest = Manifest(
        identity=identity,
        version=identity.version,
        digest=content_digest(files),
        recipe="demo",
        files=files,
        metrics={"loss": 1.5, "dropped": {"near_duplicate": 3}},
        provenance=Provenance(
            created_at="2026-01-01T00:00:00+00:00",
            run_id="r",
            code_commit="c",
            environment_digest="e",
            environment={"torch": "2"},
        ),
    )
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_content_digest_follows_bytes_and_paths():
    one = (File(path="a", bytes=1, sha256="x"),)
    renamed = (File(path="b", bytes=1, sha256="x"),)
    changed = (File(path="a", bytes=1, sha256="y"),)
    assert len({content_digest(files) for files in (one, renamed, changed)}) == 3

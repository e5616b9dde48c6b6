"""The Hub by its real client: what is listed, fetched and read in ranges is right or refused, whatever the server does."""

import contextlib
import hashlib
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from definemed_pipeline.corpus.sources.listing import list_source
from definemed_pipeline.corpus.sources.opening import open_file
from definemed_pipeline.corpus.sources.settings import ACCESS_VARIABLE
from definemed_pipeline.errors import UserError
from definemed_pipeline_tests.corpus.sources.conftest import fineweb2
from definemed_pipeline_tests.corpus.sources.hub_server import FOLDER, REPOSITORY, Fault, Hub

BODY = random.Random(0).randbytes(300_000)
NAME = "000_00000.parquet"
TOKEN = "hf_thisTokenMustNeverBeSeen"


@pytest.fixture
def told() -> list[str]:
    return []


def read(hub: Hub, scratch: Path, told: list[str], name: str = NAME) -> bytes:
    """List the Hub and read one of its files whole."""
    file = list_source(fineweb2(), told.append)[name.removesuffix(".parquet")]
    assert file.digest is not None
    with open_file(file.location, file.digest, scratch=scratch, report=told.append) as opened:
        return opened.read()


def leftovers(scratch: Path) -> list[str]:
    return sorted(path.name for path in scratch.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


# Listing


def test_a_listing_follows_every_page_and_takes_parquet_files_only(hub):
    sha = hub.commit({f"000_0000{n}.parquet": b"x" * n for n in range(5)} | {"README.md": b"no shard"})
    hub.page = 2
    files = list_source(fineweb2())
    assert list(files) == [f"000_0000{n}" for n in range(5)]
    third = files["000_00003"]
    assert third.location == f"hf://datasets/{REPOSITORY}@{sha}/{FOLDER}/000_00003.parquet"
    assert (third.bytes, third.digest, third.revision) == (3, hashlib.sha256(b"xxx").hexdigest(), sha)
    assert len(hub.asked("tree")) == 3


def test_a_branch_that_moves_between_two_pages_gives_the_files_of_one_commit(hub):
    @contextlib.contextmanager
    def moving() -> Iterator[None]:
        hub.commit({f"000_0000{n}.parquet": b"new" for n in range(5)})
        yield

    first = hub.commit({f"000_0000{n}.parquet": b"old" for n in range(4)})
    hub.page, hub.before_page = 2, [contextlib.nullcontext(), moving()]
    files = list_source(fineweb2())
    assert hub.branches["main"] != first
    assert len(files) == 4
    assert {file.digest for file in files.values()} == {hashlib.sha256(b"old").hexdigest()}
    assert {file.revision for file in files.values()} == {first}


@pytest.mark.parametrize("place", ["revision", "tree"])
def test_too_many_requests_are_waited_out_as_the_hub_asks_and_told(hub, told, place):
    hub.commit({NAME: BODY})
    hub.faults[place] = [Fault(status=429, headers={"Retry-After": "1"})]
    assert list(list_source(fineweb2(), told.append)) == ["000_00000"]
    assert len(hub.asked(place)) == 2
    assert any("429" in line for line in told)
    assert any("1 s" in line or "Waiting 2.0s" in line for line in told)  # ours, or the client's, which adds a second


def test_server_errors_that_pass_are_waited_out(hub, told):
    hub.commit({NAME: BODY})
    hub.faults["revision"] = [Fault(status=500), Fault(status=503)]
    hub.faults["tree"] = [Fault(status=502)]
    assert list(list_source(fineweb2(), told.append)) == ["000_00000"]
    assert any("HTTP 503; trying again" in line for line in told)


def test_server_errors_that_stay_are_told_in_a_line(hub):
    hub.commit({NAME: BODY})
    hub.faults["revision"] = [Fault(status=500)] * 10
    with pytest.raises(UserError, match=r"HTTP 500 from the Hub, 4 times in a row; try later") as caught:
        list_source(fineweb2())
    assert "\n" not in str(caught.value)


def test_an_unknown_revision_is_named_with_the_cure(hub):
    hub.commit({NAME: BODY})
    for revision in ("mian", "0" * 40):
        with pytest.raises(UserError, match=f"{revision}.* no such revision: correct source.revision"):
            list_source(fineweb2(revision))


def test_an_unknown_language_or_dataset_is_named_with_the_cure(hub):
    hub.commit({NAME: BODY})
    with pytest.raises(UserError, match=r"data/deu_Latn/dev: HTTP 404, .*correct source.language or source.split"):
        list_source(fineweb2(split="dev"))
    with pytest.raises(UserError, match=r"acme/nothing@main.*correct source.repository"):
        list_source(type(fineweb2())(repository="acme/nothing", language="deu_Latn", revision="main"))


def test_a_gated_dataset_asks_for_the_token_or_for_its_conditions(hub, monkeypatch):
    hub.commit({NAME: BODY})
    hub.token = TOKEN
    with pytest.raises(UserError, match="HTTP 401, needs a token, or does not exist: set HF_TOKEN"):
        list_source(fineweb2())
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(UserError, match="HTTP 403, access is gated or forbidden: accept its conditions") as caught:
        list_source(fineweb2())
    assert "hf_another" not in str(caught.value)
    hub.faults["revision"] = [Fault(status=401)]
    with pytest.raises(UserError, match="refuses the token in HF_TOKEN"):
        list_source(fineweb2())
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert list_source(fineweb2())


def test_a_hub_out_of_reach_is_told_at_once(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for revision in ("main", "0" * 40):
        with pytest.raises(UserError, match="the Hub is out of reach; check the network, HF_ENDPOINT") as caught:
            list_source(fineweb2(revision))
        assert "\n" not in str(caught.value)


# Copies


def test_a_file_is_fetched_once_and_read_from_its_copy_afterwards(hub, scratch, told):
    hub.commit({NAME: BODY})
    assert read(hub, scratch, told) == BODY
    fetched = len(hub.requests)
    assert read(hub, scratch, told) == BODY
    assert [request.place for request in hub.requests[fetched:]] == ["revision", "tree"]  # what `read` asks for the listing
    assert leftovers(scratch) == [hashlib.sha256(BODY).hexdigest()]


def test_the_same_bytes_at_another_commit_are_not_fetched_again(hub, scratch, told):
    hub.commit({NAME: BODY})
    read(hub, scratch, told)
    hub.commit({"000_00001.parquet": b"new"})
    assert read(hub, scratch, told) == BODY
    assert len(hub.asked("cdn")) == 1


@pytest.mark.parametrize("way", ["closed", "reset"])
def test_a_body_that_is_cut_goes_on_where_it_broke(hub, scratch, told, monkeypatch, way):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 14)  # what is cut within a chunk is lost
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(cut_after=100_000, way=way), Fault(cut_after=100_000, way=way)]
    assert read(hub, scratch, told) == BODY
    starts = [int(request.range.removeprefix("bytes=").rstrip("-")) for request in hub.asked("cdn")[1:] if request.range]
    assert len(starts) == 2
    assert 0 < starts[0] <= 100_000 < starts[1] <= 200_000
    assert any("resume" in line or "trying again" in line for line in told)


def test_a_server_that_ignores_the_range_of_a_resumed_download_gives_the_right_bytes(hub, scratch, told, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 14)
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(cut_after=100_000), Fault(ignores_range=True)]
    assert read(hub, scratch, told) == BODY


def test_too_many_requests_and_server_errors_of_a_download_are_waited_out(hub, scratch, told):
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(status=429, headers={"Retry-After": "0"}), Fault(status=503)]
    assert read(hub, scratch, told) == BODY
    assert any("429" in line for line in told)
    assert any("HTTP 503; trying again" in line for line in told)


def test_a_download_that_never_gets_on_is_left_for_another_try(hub, scratch, told):
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(status=500)] * 10
    with pytest.raises(ConnectionError, match="HTTP 500 from the Hub, 4 times in a row"):
        read(hub, scratch, told)
    hub.faults["cdn"].clear()
    assert read(hub, scratch, told) == BODY


WRONG = {"bytes": BODY[:-1] + b"?", "shorter": BODY[:-5], "longer": BODY + b"more"}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_with_wrong_content_is_fetched_again_once(hub, scratch, told, wrong):
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(body=WRONG[wrong])]
    assert read(hub, scratch, told) == BODY
    assert any("fetching it again" in line for line in told)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_with_wrong_content_twice_is_refused_and_nothing_of_it_is_kept(hub, scratch, told, wrong):
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(body=WRONG[wrong])] * 2
    with pytest.raises(UserError, match=r"arrived twice with .*: the Hub or a proxy on the way serves a damaged file"):
        read(hub, scratch, told)
    assert leftovers(scratch) == []
    assert len(hub.asked("cdn")) == 2


def test_a_file_that_lies_in_git_itself_is_verified_by_gits_hash(hub, scratch, told):
    hub.offers_large_files = False
    hub.commit({NAME: BODY})
    hub.faults["resolve"] = [Fault(body=WRONG["bytes"])]
    assert read(hub, scratch, told) == BODY
    assert any("other bytes than its digest says" in line for line in told)


# Ranges


def test_scanning_reads_ranges_and_stores_nothing(hub, scratch, monkeypatch):
    monkeypatch.setenv(ACCESS_VARIABLE, "scan")
    hub.commit({NAME: BODY})
    file = list_source(fineweb2())["000_00000"]
    with open_file(file.location, file.digest, size=file.bytes, scratch=scratch) as opened:
        assert opened.seek(-8, 2) == len(BODY) - 8
        assert opened.read() == BODY[-8:]
        opened.seek(1000)
        assert opened.read(10) == BODY[1000:1010]
        assert opened.read(10) == BODY[1010:1020]  # read ahead
    assert [request.range for request in hub.asked("cdn")] == [
        f"bytes={len(BODY) - 8}-{len(BODY) - 1}",
        f"bytes=1000-{len(BODY) - 1}",
    ]
    assert not scratch.exists()


def test_a_range_that_is_cut_or_refused_for_a_while_is_asked_for_again(hub, scratch, told, monkeypatch):
    monkeypatch.setenv(ACCESS_VARIABLE, "scan")
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [
        Fault(cut_after=1000), Fault(cut_after=1000, way="reset"), Fault(status=429, headers={"Retry-After": "0"})
    ]  # fmt: skip
    assert read(hub, scratch, told) == BODY
    assert sum("trying again" in line for line in told) == 3


def test_a_server_without_ranges_is_refused_with_the_cure(hub, scratch, told, monkeypatch):
    monkeypatch.setenv(ACCESS_VARIABLE, "scan")
    hub.commit({NAME: BODY})
    hub.faults["cdn"] = [Fault(ignores_range=True)]
    with pytest.raises(UserError, match=r"serves no ranges of it; set source.access to download"):
        read(hub, scratch, told)


# The token


@pytest.fixture(params=["download", "scan"])
def token(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The token in the environment, for both ways to read files."""
    monkeypatch.setenv(ACCESS_VARIABLE, request.param)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return TOKEN


def test_the_token_goes_to_the_hub_only_and_into_no_message_log_or_file(hub, scratch, told, token, caplog):
    caplog.set_level(logging.DEBUG, logger="huggingface_hub")
    logging.getLogger("huggingface_hub").addHandler(caplog.handler)
    hub.token = token
    hub.commit({NAME: BODY})
    hub.faults["tree"] = [Fault(status=429, headers={"Retry-After": "0"})]
    hub.faults["cdn"] = [Fault(cut_after=1000), Fault(status=500)]
    assert read(hub, scratch, told) == BODY
    hub.faults["cdn"] = [Fault(status=403)]
    hub.commit({NAME: b"another file"})
    with pytest.raises(UserError) as caught:
        read(hub, scratch, told)
    logging.getLogger("huggingface_hub").removeHandler(caplog.handler)
    sent = {place: {request.token for request in hub.requests if request.place == place} for place in ("tree", "resolve", "cdn")}
    assert sent == {"tree": {token}, "resolve": {token}, "cdn": {None}}
    assert "authenticated: True" in caplog.text
    assert token not in "\n".join([*told, caplog.text, str(caught.getrepr(showlocals=False))])
    assert not [path for path in scratch.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]

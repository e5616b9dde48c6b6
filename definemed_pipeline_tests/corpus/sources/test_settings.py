import pytest

from definemed_pipeline.corpus.sources.settings import ParquetSource
from definemed_pipeline.settings import section_digest
from definemed_pipeline_tests.corpus.sources.conftest import fineweb2


def test_a_source_without_files_is_refused() -> None:
    with pytest.raises(ValueError, match="files is empty"):
        ParquetSource(files=())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repository": "fineweb-2"}, "repository is 'fineweb-2'; allowed: owner/name"),
        ({"split": "train/part"}, "split is 'train/part'; allowed: a name without a slash"),
        ({"split": ""}, "split is ''; allowed: a name"),
        ({"access": "stream"}, "access is 'stream'; allowed: download, scan"),
        ({"cache_gib": 0}, "cache_gib is 0; allowed: above 0"),
    ],
)
def test_an_impossible_hub_source_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        type(fineweb2())(**{"repository": "a/b", "language": "deu_Latn", "revision": "main", **changes})


def test_where_bytes_lie_and_how_they_are_read_enters_no_digest() -> None:
    assert section_digest(fineweb2("main")) == section_digest(fineweb2("0" * 40, access="scan", cache_gib=1, split="test"))
    assert section_digest(ParquetSource(files=("a",))) == section_digest(ParquetSource(files=("b",)))


def test_a_branch_may_have_slashes() -> None:
    assert fineweb2("refs/convert/parquet").revision == "refs/convert/parquet"

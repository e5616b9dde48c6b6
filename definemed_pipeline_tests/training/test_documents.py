import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definemed_pipeline.errors import UserError
from definemed_pipeline.training import documents
from definemed_pipeline.training.documents import read_documents, read_ids

TEXTS = ["Husten", "", "Fieber und Ausschlag", "🦠" * 50, "Ruhe\nund Tee"]


def write_parquet(
    path: Path, texts: list[str | None], ids: list[str | None] | None = None, kind: pa.DataType | None = None
) -> str:
    ids = [f"<{number}>" for number in range(len(texts))] if ids is None else ids
    table = pa.table({"url": texts, "text": pa.array(texts, kind or pa.string()), "id": pa.array(ids, pa.string())})
    pq.write_table(table, path)
    return str(path)


def write_lines(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    return str(path)


def read(location: str) -> list[tuple[str, str]]:
    return [pair for batch in read_documents(location, "name") for pair in zip(batch.ids, batch.texts, strict=True)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_a_row_of_parquet_is_a_document(tmp_path, kind) -> None:
    location = write_parquet(tmp_path / "a.parquet", TEXTS, kind=kind)
    assert read(location) == [(f"<{number}>", text) for number, text in enumerate(TEXTS)]
    assert [name for ids in read_ids(location) for name in ids] == [f"<{number}>" for number in range(len(TEXTS))]


def test_a_line_of_json_lines_is_a_document_named_by_file_and_line(tmp_path) -> None:
    assert read(write_lines(tmp_path / "a.jsonl", TEXTS)) == [(f"name:{number}", text) for number, text in enumerate(TEXTS, 1)]


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=20), size=st.integers(1, 60))
def test_batches_are_bounded_in_bytes_and_in_documents_and_hold_everything(tmp_path_factory, texts, size) -> None:
    folder = tmp_path_factory.mktemp("documents")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "BYTES_PER_CORE", size)
        patch.setattr(documents, "DOCUMENTS_PER_CORE", 2)
        for location in (write_parquet(folder / "a.parquet", texts), write_lines(folder / "a.jsonl", texts)):
            batches = [batch.texts for batch in read_documents(location, "name", cores=2)]
            assert [text for batch in batches for text in batch] == texts
            for batch in batches:
                assert 0 < len(batch) <= 4
                sizes = [len(text.encode()) for text in batch]
                assert sum(sizes) - max(sizes) < 2 * size  # a document may be larger by itself


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": "halb', "line 2: not a JSON object"),
        ('{"texte": "x"}', "line 2: not a JSON object"),
        ('{"text": null}', "line 2: not a JSON object"),
        ('{"text": ["x"]}', "line 2: not a JSON object"),
        ('["text"]', "line 2: not a JSON object"),
        ("", "line 2: not a JSON object"),
        (r'{"text": "\ud800"}', "line 2: not a JSON object"),
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path, line: str, told: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "gut"}}\n{line}\n{{"text": "gut"}}\n', "utf-8")
    with pytest.raises(UserError, match=told) as caught:
        read(str(path))
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_document_without_text_or_id_is_named_by_its_row(tmp_path) -> None:
    texts = ["x"] * 1500
    with pytest.raises(UserError, match="the text of row 1499 is null"):
        read(write_parquet(tmp_path / "a.parquet", [*texts[:-1], None]))
    with pytest.raises(UserError, match="the id of row 1 is null"):
        read(write_parquet(tmp_path / "a.parquet", texts[:2], ["a", None]))
    with pytest.raises(UserError, match="the id of row 1 is null"):
        list(read_ids(write_parquet(tmp_path / "a.parquet", texts[:2], ["a", None])))


def test_every_fault_of_the_columns_is_told_at_once(tmp_path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "content": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="column text is missing; column id is int64, not string"):
        read(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("damage", ["empty", "cut", "another format"])
def test_a_file_that_is_no_parquet_is_told_with_the_cure(tmp_path, damage: str) -> None:
    path = Path(write_parquet(tmp_path / "a.parquet", TEXTS))
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[:-20], "another format": gzip.compress(content)}[damage])
    with pytest.raises(UserError, match="it is truncated or damaged; replace it") as caught:
        read(str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_text_that_is_no_utf_8_is_told(tmp_path) -> None:
    broken = pa.array([b"gut", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["a", "b"], "text": broken}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="cannot be read"):
        read(str(tmp_path / "a.parquet"))
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(UserError, match="line 1: not a JSON object"):
        read(str(tmp_path / "a.jsonl"))


def test_a_file_that_is_gone_or_of_another_kind_is_told(tmp_path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read(str(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match=r"neither \.parquet nor \.jsonl"):
        read(str(tmp_path / "a.csv"))


def test_files_without_a_document_have_none(tmp_path) -> None:
    assert read(write_lines(tmp_path / "a.jsonl", [])) == []
    assert read(write_parquet(tmp_path / "a.parquet", [])) == []

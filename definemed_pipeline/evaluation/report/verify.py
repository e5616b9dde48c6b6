"""Whether a page tells the truth: every number and text on it is looked up again where it says it was read, and calculated again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from definemed_pipeline.artifacts.manifest import Manifest
from definemed_pipeline.artifacts.store import Store, sha256_of
from definemed_pipeline.evaluation.report.marking import displayed
from definemed_pipeline.evaluation.report.tracing import MANIFEST, PlaceReader, calculate, plain, point_into

# A number that is part of no name, version or key.
NUMBER = re.compile(r"(?<![\w.,/-])\d(?:[\d.,]*\d)?(?![\w-])")
ALLOWED = re.compile(r"95 %")  # the confidence of every interval
# Elements whose numbers are no measurements: what a name or a scale consists of.
NAMES = "self::style or self::title or self::code or self::sup or contains(@class, 'axis') or starts-with(@class, 'name ') or contains(@class, 'artifact')"
BLOCKS = "ancestor::*[self::p or self::table or self::figure or self::article or self::li]"


@dataclass(frozen=True, kw_only=True)
class _Cited:
    manifest: Manifest
    file: str

    @cached_property
    def manifest_values(self) -> Any:
        return plain(self.manifest)


def contradictions(page: str, store: Store, report: Manifest) -> list[str]:
    """Return what is wrong with the page of a report, as sentences; none where every number on it is what its file says.

    Found are files that left the lake or changed, numbers and texts that differ from their place or have none, and such as no visible
    link leads from.
    """
    import lxml.html

    tree = lxml.html.document_fromstring(page)
    files, found = {}, []
    for row in tree.xpath("//tr[@data-asset]"):
        number = row.get("id").removeprefix("file-")
        try:
            files[number] = _cited(row, store, report)
        except LookupError as error:
            found.append(f"file {number}: {error.args[0]}")
    shown, reader = tree.xpath("//*[@data-from]"), PlaceReader()
    for element in shown:
        if missing := [number for number in element.get("data-from").split() if number not in files]:
            found.append(f"{_said(element)}: file {', '.join(missing)} is not to be had")
        else:
            found.extend(_faults(element, files, store, reader))
    found.extend(f"{text.strip()!r}: {number} has no place" for text, number in _untraced(tree))
    return found


def _cited(row: Any, store: Store, report: Manifest) -> _Cited:
    """Find the artifact of a cited file, and check the file's bytes against its manifest."""
    asset, partition, version, file = (row.get(f"data-{name}") for name in ("asset", "partition", "version", "file"))
    if (asset, partition, version) == (report.asset, report.partition, report.version):
        return _Cited(manifest=report, file=file)
    manifest = store.manifest(asset, partition, version)
    if manifest is None:
        raise LookupError(f"{asset}[{partition}] version {version} has left the lake")
    if manifest.digest != row.get("data-digest"):
        raise LookupError(f"{asset}[{partition}] has another digest than when the page was made")
    recorded = {one.path: one.sha256 for one in manifest.files}
    if file != MANIFEST and sha256_of(store.folder(manifest) / file) != recorded.get(file):
        raise LookupError(f"{asset}[{partition}] {file} is not the file that its manifest describes")
    return _Cited(manifest=manifest, file=file)


def _faults(element: Any, files: dict[str, _Cited], store: Store, reader: PlaceReader) -> Iterator[str]:
    """Look an element's value up again, and see that its block links to the files."""
    numbers, keys = element.get("data-from").split(), element.get("data-at").split()
    try:
        values = [_value(files[number], key, store, reader) for number, key in zip(numbers, keys, strict=True)]
    except LookupError as error:
        yield f"{_said(element)}: {error}"
        return
    text = element.text_content()
    if (formula := element.get("data-formula")) is None:
        if text != values[0]:
            yield f"{_said(element)}: its file says {values[0]!r}"
    else:
        value = calculate(formula, values)
        if repr(float(value)) != element.get("value") or (
            element.tag == "data" and text != displayed(value, element.get("data-as"))
        ):
            yield f"{_said(element)}: {formula} of its files is {value!r}"
    blocks = element.xpath(BLOCKS)
    for number in sorted(set(numbers)):
        if not any(block.xpath(f".//a[@href='#file-{number}']") for block in blocks):
            yield f"{_said(element)}: nothing beside it links to file {number}"


def _value(cited: _Cited, key: str, store: Store, reader: PlaceReader) -> Any:
    if cited.file == MANIFEST:
        return point_into(cited.manifest_values, key)
    return reader.look_up(store.folder(cited.manifest), cited.file, key)


def _untraced(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield texts with a number that no element around them traces."""
    for text in tree.xpath(f"//body//text()[not(ancestor::*[@data-from or @data-asset or {NAMES}])]"):
        for number in NUMBER.findall(ALLOWED.sub("", text)):
            yield text, number


def _said(element: Any) -> str:
    return repr(element.text_content() or element.get("value"))

"""The page says what was measured, each number traced; the same bytes for the same input; nothing from outside; readable by machines too."""

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import lxml.html
import pytest

from definemed_pipeline.artifacts.build import Draft
from definemed_pipeline.artifacts.store import Store
from definemed_pipeline.errors import UserError
from definemed_pipeline.evaluation.effect import Claim
from definemed_pipeline.evaluation.report.copying import COPY, copy_page, older_than
from definemed_pipeline.evaluation.report.page import PAGE, write_report
from definemed_pipeline.evaluation.report.verdict import headline_of
from definemed_pipeline.evaluation.report.verify import contradictions
from definemed_pipeline_tests.conftest import RECIPE, build_artifact
from definemed_pipeline_tests.evaluation.conftest import MicroModel
from definemed_pipeline_tests.evaluation.report.conftest import (
    INSTRUCTION,
    MODELS,
    REPORT,
    World,
    inputs_of,
    report_in,
    write_scores,
)


@pytest.fixture(scope="module")
def tree(world: World) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(world.page)


def test_every_number_is_found_again_where_it_says_it_was_read(world: World, tree: lxml.html.HtmlElement) -> None:
    assert contradictions(world.page, world.store, world.report) == []
    assert len(tree.xpath("//data[@data-from]")) > 300


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r">31\.2</data>", ">31.3</data>", "of its files is"),
        (r'value="0\.3125"', 'value="0.3126"', "of its files is"),
        (r'data-at="/accuracy/base/', 'data-at="/accuracy/cpt/', "of its files is"),
        (r'data-at="/accuracy/base/', 'data-at="/accuracy/nobody/', "nobody"),
        (r'data-at="rate\?base_model=', 'data-at="rate?base_model=x', "0 rows"),
        (r'data-formula="1\.0 - x1"', 'data-formula="x1 - 1.0"', "of its files is"),
        (r">Die Lunge ist bei Asthma betroffen\.<", ">Das Herz.<", "its file says"),
        (r'<a href="#file-2"[^>]*>2</a>', "", "nothing beside it links to file 2"),
        (r"<h2>Corpus</h2>", "<h2>Corpus</h2><p>It holds 99 documents.</p>", "99 has no place"),
        (r'data-version="[0-9a-f]*"', 'data-version="0"', "has left the lake"),
        (r'data-digest="[0-9a-f]+"', 'data-digest="0"', "another digest"),
    ],
)
def test_a_page_that_was_tampered_with_is_found_out(world: World, pattern: str, replacement: str, complaint: str) -> None:
    changed, count = re.subn(pattern, replacement, world.page, count=1)
    assert count == 1
    found = contradictions(changed, world.store, world.report)
    assert any(complaint in one for one in found), found


def test_a_file_that_changed_after_the_page_was_made_is_found_out(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.store.root, tmp_path / "lake")
    store = Store(str(tmp_path / "lake"))
    scores = store.folder(store.require(RECIPE, "benchmark_scores", MODELS[0])) / "scores.json"
    scores.write_text(scores.read_text("utf-8").replace("0.3", "0.4"), "utf-8")
    found = contradictions(world.page, store, world.report)
    assert any("is not the file that its manifest describes" in one for one in found)


def test_the_same_input_in_another_place_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    again = report_in(tmp_path)
    assert again.page == world.page
    assert str(tmp_path) not in again.page
    assert str(Path(__file__).parent) not in again.page  # where a source lies is nobody's business


def test_nothing_is_fetched_and_no_script_runs(world: World, tree: lxml.html.HtmlElement) -> None:
    assert {href[0] for href in tree.xpath("//@href")} == {"#"}
    assert not tree.xpath("//script | //link | //img | //iframe | //object | //@src | //@srcset | //@onclick")
    assert not re.search(r"url\(|@import|https?://", world.page)
    assert "default-src 'none'" in tree.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")
    assert len(world.page.encode()) < 1_000_000


def test_every_link_leads_somewhere_and_every_id_is_one_of_a_kind(tree: lxml.html.HtmlElement) -> None:
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    assert {href.removeprefix("#") for href in tree.xpath("//@href")} <= set(ids)


def test_the_page_is_one_for_screen_readers(tree: lxml.html.HtmlElement) -> None:
    levels = [int(heading.tag[1]) for heading in tree.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert tree.get("lang") == "en"
    for table in tree.xpath("//table"):
        assert table.xpath("string(caption)").strip()
        assert all(header.get("scope") for header in table.xpath(".//th"))
        assert len({len(row.xpath("th | td")) for row in table.xpath(".//tr")}) == 1
    for picture in tree.xpath("//svg"):
        assert picture.get("role") == "img"
        assert len(picture.get("aria-label")) > 40


def test_texts_of_models_stay_texts(world: World, tree: lxml.html.HtmlElement) -> None:
    assert "<b>das</b>" not in world.page
    assert INSTRUCTION in tree.xpath("string(//section[@id='failures'])")
    assert tree.findtext(".//title") == REPORT.title


def test_what_others_published_stands_beside_ours_and_is_marked(tree: lxml.html.HtmlElement) -> None:
    beside = tree.xpath("//td[contains(@class, 'cpt')]/span[@class='published']")
    assert [" ".join(one.text_content().split()) for one in beside] == ["paper1 64.91"]
    (table,) = (one for one in tree.xpath("//table") if "Published by others: not measured here" in one.findtext("caption"))
    assert "arXiv 2604.19394" in table.text_content()


def test_a_recipe_without_published_figures_shows_none(tmp_path: Path) -> None:
    page = report_in(tmp_path, replace(REPORT, published=(), notes=(), examples=0)).page
    assert "Published" not in page
    assert "Answers to read" not in page


def claims(*holding: bool) -> list[Claim]:
    return [Claim(claim="c", holds=holds, wording="", numbers={}) for holds in holding]


@pytest.mark.parametrize(
    ("found", "headline"),
    [
        ({"a": (True, True)}, "The paper’s effect shows."),
        ({"a": (True, True), "b": (True, True)}, "The paper’s effect shows for every base model."),
        ({"a": (False, False), "b": (False, False)}, "The paper’s effect does not show."),
        ({"a": (True, False)}, "The paper’s effect shows in part for a."),
        (
            {"a": (True, True), "b": (True, False), "c": (False, False), "d": (True, True)},
            "The paper’s effect shows in full for a and d, in part for b, not at all for c.",
        ),
    ],
)
def test_the_headline_claims_no_more_than_was_shown(found: dict[str, tuple[bool, ...]], headline: str) -> None:
    assert headline_of({name: claims(*holding) for name, holding in found.items()}) == headline


def test_a_copy_goes_where_one_wants_it(world: World, tmp_path: Path) -> None:
    assert copy_page(world.store, world.report, None) == f"{world.store.uri(world.report)}/{PAGE}"
    for place, expected in ((tmp_path, tmp_path / COPY), (tmp_path / "mine.html", tmp_path / "mine.html")):
        assert copy_page(world.store, world.report, place) == expected
        assert expected.read_text("utf-8") == world.page
    with pytest.raises(UserError, match="name a file in a folder that exists"):
        copy_page(world.store, world.report, tmp_path / "nowhere" / "mine.html")


def test_a_page_that_is_older_than_what_it_tells_of_says_so(tmp_path: Path) -> None:
    world = report_in(tmp_path)
    assert older_than(world.store, RECIPE, world.report) == []

    def other(draft: Draft[MicroModel]) -> None:
        write_scores(draft)
        draft.write_json("more.json", {})

    build_artifact(world.store, "benchmark_scores", other, MicroModel(seed=1), partition=MODELS[0])
    assert older_than(world.store, RECIPE, world.report) == [f"benchmark_scores[{MODELS[0]}]"]


def words_of(element: lxml.html.HtmlElement) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_the_trade_off_says_what_each_stage_did(tree: lxml.html.HtmlElement) -> None:
    table = tree.xpath("//section[@id='tradeoffs']//table")[0]
    rows = [[words_of(cell) for cell in row.xpath("th | td")] for row in table.xpath(".//tbody/tr")]
    assert rows[0][0] == "accuracy, % higher is better"
    assert rows[0][4:] == ["gain +60.0 ( +57.0 to +62.0 )", "kept 78 % 68 – 88 %"]
    assert rows[1][4:] == ["none shown −0.20 ( −0.23 to −0.18 )", "brought in +0.80 ( +0.77 to +0.82 ) to base"]


def test_the_sweep_names_the_chosen_merge_and_joins_the_front(tree: lxml.html.HtmlElement) -> None:
    (section,) = tree.xpath("//section[@id='merge']")
    assert [words_of(one) for one in section.xpath(".//tr[@class='kept']/th")] == ["slerp t=0.6 chosen"]
    assert section.xpath("string(.//svg/text[@class='name chosen'])") == "slerp t=0.6"
    (line,) = section.xpath(".//svg/path[@class='joined']/@d")
    assert len(line.split("L")) == 3  # t = 0.4, 0.6, 0.8
    assert len(section.xpath(".//svg/g[@class='point dominated']")) == 1


def test_a_lake_without_a_sweep_has_no_such_section(tmp_path: Path) -> None:
    inputs = [one for one in inputs_of(Store(str(tmp_path))) if one.asset != "merge_sweep"]
    report = build_artifact(Store(str(tmp_path)), "report", write_report, REPORT, inputs=inputs)
    assert 'id="merge"' not in World(Store(str(tmp_path)), report).page


def test_a_failed_answer_of_each_failure_can_be_read(tree: lxml.html.HtmlElement) -> None:
    rows = [[words_of(cell) for cell in row.xpath("th | td")] for row in tree.xpath("//table[@class='failed']/tbody/tr")]
    assert ["language mixing beispiel-mistral CPT", INSTRUCTION, "The patient should see a doctor today."] in rows
    assert ["empty beispiel-qwen2.5 CPT", INSTRUCTION, "no answer"] in rows
    assert not [row for row in rows if row[0].startswith("refusal")]  # nobody refused

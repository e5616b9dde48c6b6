import pytest

from definemed_pipeline.corpus.settings import AnnotationSettings, LexiconAnnotator, MedicalDocumentsSettings
from definemed_pipeline.settings import section_digest


def test_bands_that_do_not_divide_the_permutations_are_refused() -> None:
    with pytest.raises(ValueError, match="bands is 13; allowed: a divisor of num_perm, which is 112"):
        MedicalDocumentsSettings(bands=13)


def test_where_files_lie_does_not_enter_the_digest_and_the_threshold_does() -> None:
    here = AnnotationSettings(annotator=LexiconAnnotator(lexicon="/here.yaml"), gold="/here.parquet")
    there = AnnotationSettings(annotator=LexiconAnnotator(lexicon="/there.yaml"), gold=None)
    assert section_digest(here) == section_digest(there)
    assert section_digest(here) != section_digest(AnnotationSettings(annotator=LexiconAnnotator(threshold=0.4)))

"""The sections that these tests share: German expected, English foreign, with the packaged lexicons."""

from definemed_pipeline.evaluation.failures.settings import FailureModesSettings, LanguageSettings

GERMAN = LanguageSettings(expected="de", foreign=("en",), words={"de": "words_de", "en": "words_en"}, terms=("terms_medical_de",))
SETTINGS = FailureModesSettings(language=GERMAN, refusals="refusals_de", resamples=200)

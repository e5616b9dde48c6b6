import pytest

from definemed_pipeline.chat.settings import ChatEndpointSettings
from definemed_pipeline.settings import section_digest

SECRET = "hf_abcdefSECRET"


def section(**changes: object) -> ChatEndpointSettings:
    return ChatEndpointSettings(**{"base_url": "http://localhost:8000/v1", "model": "m", **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": f"https://user:{SECRET}@host/v1"},
        {"base_url": f"https://host/v1?key={SECRET}"},
        {"base_url": f"{SECRET}.example.org/v1"},
        {"base_url": f"http://host:{SECRET}/v1"},
        {"api_key_env": SECRET},
        {"api_key_env": f"sk-{SECRET}"},
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="does not fit; allowed") as refusal:
        section(**changes)
    assert SECRET not in str(refusal.value)


def test_only_the_model_is_part_of_the_version() -> None:
    moved = section(
        base_url="https://other.example.org/v1",
        api_key_env="OTHER_KEY",
        concurrency=99,
        timeout_s=9,
        max_retries=0,
        first_wait_s=9,
        price_per_million_prompt_tokens=9,
    )
    assert section_digest(moved) == section_digest(section())
    assert section_digest(section(model="other")) != section_digest(section())

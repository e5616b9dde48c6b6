"""How a chat endpoint is named in the recipe. Needs the standard library only."""

import re
from urllib.parse import urlsplit

from definemed_pipeline.settings import setting, settings


@settings
class ChatEndpointSettings:
    """An OpenAI-compatible endpoint (vLLM, a hosted one, ...) and how patiently it is asked.

    Only `model` says what is answered. All else says where and how the endpoint is reached: it is declared a location, so that a
    moved endpoint or another concurrency makes no new version and pays for nothing again.
    """

    base_url: str = setting(location=True)  # the part before /chat/completions, such as http://localhost:8000/v1
    model: str
    api_key_env: str | None = setting(default=None, location=True)  # the name of the environment variable that holds the key
    concurrency: int = setting(default=8, at_least=1, at_most=1024, location=True)  # requests at a time
    timeout_s: float = setting(default=120.0, above=0, at_most=86_400, location=True)  # for one whole answer
    max_retries: int = setting(default=6, at_least=0, at_most=100, location=True)
    first_wait_s: float = setting(
        default=1.0, above=0, at_most=86_400, location=True
    )  # before the first retry; doubles with each
    longest_wait_s: float = setting(default=300.0, above=0, at_most=86_400, location=True)  # who asks for more is given up

    # What a million tokens cost, in any one currency; 0 where nobody bills them.
    price_per_million_prompt_tokens: float = setting(default=0.0, at_least=0, location=True)
    price_per_million_completion_tokens: float = setting(default=0.0, at_least=0, location=True)

    def __post_init__(self) -> None:
        # Neither message repeats the value: it may be a secret that was put in the wrong place.
        if not _is_plain_url(self.base_url):
            raise ValueError(
                "base_url does not fit; allowed: http(s)://host[:port]/path without user, password and query "
                "(a key belongs in the environment variable that api_key_env names)"
            )
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            raise ValueError(
                "api_key_env does not fit; allowed: the NAME of an environment variable (A-Z, 0-9, _), never the key itself"
            )


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no port
    except ValueError:
        return False
    extras = (parts.username, parts.password, parts.query, parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(extras)

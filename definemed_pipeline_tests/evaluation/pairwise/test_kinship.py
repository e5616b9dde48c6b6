import pytest

from definemed_pipeline.evaluation.pairwise.kinship import families, kin_of

CONTESTANTS = {
    "mistral-small-24b": ["mistralai/Mistral-Small-24B-Instruct-2501"],
    "klinik": ["Qwen/Qwen2.5-7B-Instruct"],
    "demo-qwen2": ["qwen2"],
}


@pytest.mark.parametrize(
    ("judge", "kin"),
    [
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", ["mistral-small-24b"]),
        ("BioMistral-7B", ["mistral-small-24b"]),
        ("Qwen/QwQ-32B", ["demo-qwen2", "klinik"]),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", ["demo-qwen2", "klinik"]),
        ("meta-llama/Llama-3.3-70B-Instruct", []),
        ("gpt-4.1", []),
    ],
)
def test_a_judge_is_kin_to_the_models_of_its_family(judge: str, kin: list[str]) -> None:
    assert kin_of(judge, CONTESTANTS) == kin


def test_a_family_is_not_read_into_other_words() -> None:
    assert families(["philosopher-13b", "a-graphic-model", "yielding", "gptq-quantised"]) == set()

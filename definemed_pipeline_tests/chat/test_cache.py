import subprocess
import sys
from pathlib import Path

import pytest

from definemed_pipeline.chat.cache import Answer, AnswerCache
from definemed_pipeline.errors import UserError

WRITER = """
import pathlib, sys
from definemed_pipeline.chat.cache import Answer, AnswerCache
name, folder = sys.argv[1:]
cache = AnswerCache(pathlib.Path(folder))
print("open", flush=True)
sys.stdin.readline()
for number in range(400):
    cache.put(f"{name}{number}", Answer(text=f"{name} says {number}", prompt_tokens=1, completion_tokens=1))
    print(number, flush=True)
sys.stdin.readline()
"""


def writer(name: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, name, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_write_into_one_cache_at_once_and_lose_nothing(tmp_path: Path) -> None:
    """They also create it at once, which is where SQLite is known to refuse."""
    both = [writer(name, tmp_path) for name in "ab"]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    for process in both:
        go(process)
    for process in both:
        process.communicate("\n", timeout=120)
        assert process.returncode == 0
    cache = AnswerCache(tmp_path)
    for name in "ab":
        for number in range(400):
            found = cache.get(f"{name}{number}")
            assert found is not None
            assert found.text == f"{name} says {number}"
    cache.close()


def test_an_answer_is_there_after_a_kill_as_soon_as_put_returned(tmp_path: Path) -> None:
    process = writer("a", tmp_path)
    go(process)
    assert process.stdout is not None
    put = 0
    while put < 150:
        line = process.stdout.readline().strip()
        put = put + 1 if line.isdigit() else put
    process.kill()
    process.communicate()
    cache = AnswerCache(tmp_path)
    assert all(cache.get(f"a{number}") is not None for number in range(put))
    cache.put("more", Answer(text="x", prompt_tokens=0, completion_tokens=0))
    assert cache.get("more") == Answer(text="x", prompt_tokens=0, completion_tokens=0)
    cache.close()


def test_what_is_no_cache_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"no database at all " * 100)
    with pytest.raises(UserError, match=r"answers\.sqlite cannot be used \(file is not a database\); move it away"):
        AnswerCache(tmp_path)

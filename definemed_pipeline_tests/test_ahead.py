from collections.abc import Iterator

import pytest

from definemed_pipeline.ahead import ahead


def test_every_item_comes_in_its_order() -> None:
    assert list(ahead(iter([]))) == []
    assert list(ahead(iter(range(1, 5)))) == [1, 2, 3, 4]


def test_what_the_thread_meets_reaches_the_reader() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError

    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(ahead(items()))


def test_no_more_than_one_item_is_made_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1, 10):
            made.append(number)
            yield number

    reading = ahead(items())
    assert next(reading) == 1
    reading.close()
    assert made == [1, 2]

"""A record whose fields are made later is, for everybody who looks, the record that was made at once."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from willitrun.records.deferred import Deferred


class Answer(Deferred):
    """An answer in numbers and in words."""

    text: str
    number: int
    notes: tuple[str, ...] = ()
    more: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it


class Holder(BaseModel):
    """Somebody else's model."""

    answer: Answer


WHOLE = Answer.model_construct(text="two", number=2, notes=("a", "b"))


def _deferred() -> Answer:
    return Answer.model_defer({"text": lambda: "two", "notes": lambda: ("a", "b")}, number=2)


@pytest.mark.parametrize(
    "look",
    [
        lambda answer: answer,
        lambda answer: answer.model_dump(),
        lambda answer: answer.model_dump_json(),
        lambda answer: answer.model_dump(exclude_unset=True),
        lambda answer: answer.model_dump_json(include={"text"}),
        lambda answer: list(answer),
        lambda answer: list(vars(answer).items()),
        lambda answer: repr(dict(answer)),
        lambda answer: answer.model_fields_set,
        lambda answer: answer.model_copy(update={"number": 3}),
        lambda answer: answer.model_copy(deep=True),
        copy.copy,
        copy.deepcopy,
        lambda answer: pickle.loads(pickle.dumps(answer)),
        lambda answer: TypeAdapter(list[Answer]).dump_json([answer]),
        lambda answer: Holder(answer=answer).model_dump_json(),
        lambda answer: Holder(answer=answer).model_copy(deep=True),
        lambda answer: pickle.loads(pickle.dumps(Holder(answer=answer))),
        lambda answer: Answer.model_validate(answer.model_dump()),
        lambda answer: answer.text,
        lambda answer: (answer.notes, answer.text, answer.model_dump_json()),
    ],
)
def test_it_looks_the_same(look: Callable[[Answer], Any]) -> None:
    assert look(_deferred()) == look(WHOLE)
    assert _deferred() == WHOLE


def test_fields_keep_their_order_whatever_was_read_first() -> None:
    answer = _deferred()
    assert answer.notes == ("a", "b")
    assert list(json.loads(answer.model_dump_json())) == ["text", "number", "notes", "more"]


def test_a_field_is_made_once_and_only_when_it_is_read() -> None:
    calls: list[str] = []
    answer = Answer.model_defer({"text": lambda: calls.append("text") or "two"}, number=2)
    assert (answer.number, calls) == (2, [])
    assert answer.text == answer.text == "two"
    assert answer.model_dump()["text"] == "two"
    assert calls == ["text"]


def test_a_copy_puts_off_what_its_original_did() -> None:
    calls: list[str] = []
    answer = Answer.model_defer({"text": lambda: calls.append("text") or "two", "notes": tuple}, number=2)
    other = answer.model_copy(update={"number": 3, "notes": ("c",)})
    assert (other.number, other.notes, answer.notes, calls) == (3, ("c",), (), [])
    assert other.model_dump() == {"text": "two", "number": 3, "notes": ("c",), "more": {}}
    assert calls == ["text"]
    with pytest.raises(TypeError, match="nots"):
        _deferred().model_copy(update={"nots": ()})


def test_what_makes_a_field_is_let_go() -> None:
    import gc
    import weakref

    class Computed:
        text = "two"

    computed = Computed()
    gone = weakref.ref(computed)
    answer = Answer.model_defer({"text": lambda value=computed: value.text}, number=2)
    del computed
    pickle.dumps(answer)
    gc.collect()
    assert gone() is None
    assert answer.text == "two"


def test_unknown_names_and_missing_fields_are_refused() -> None:
    with pytest.raises(AttributeError):
        _ = _deferred().txt
    for makers, values in (
        ({}, {"number": 1}),
        ({"text": str}, {"number": 1, "text": ""}),
        ({"text": str, "others": str}, {"number": 1}),
        ({"text": str}, {"number": 1, "others": 1}),
    ):
        with pytest.raises(TypeError):
            Answer.model_defer(makers, **values)
    with pytest.raises(Exception, match="frozen"):
        _deferred().number = 3


def test_threads_that_read_at_once_get_equal_records() -> None:
    for _ in range(50):
        answer = _deferred()
        found: list[object] = []
        barrier = threading.Barrier(4)

        def read(
            answer: Answer = answer, barrier: threading.Barrier = barrier, found: list[object] = found
        ) -> None:
            barrier.wait()
            found.append((answer.text, answer.model_dump_json(), answer == WHOLE, answer.notes))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert all(one == found[0] for one in found)

"""The doctor knows every key, because `broker.keys` says of each what type it is."""

from __future__ import annotations

import pytest

from broker import keys
from broker.doctor.data import TYPES, known_keys
from broker.keys import Keys


def types_of(key: str) -> set[str]:
    return {type for pattern, type in known_keys() if pattern.fullmatch(key)}


@pytest.mark.parametrize(
    ("key", "type"),
    [
        (Keys("teacher-17").free, "zset"),
        (Keys("default").fence, "string"),
        (Keys("default").events, "stream"),
        (Keys("default").slot("host@school.example#0"), "hash"),
        (Keys("default").owners, "hash"),
        (Keys("default").stray(81234567890), "string"),
        (keys.credential("default"), "hash"),
        (keys.token("default"), "string"),
        (keys.idempotency("anna", "0f"), "string"),
    ],
)
def test_key_is_known_with_its_type(key: str, type: str) -> None:
    assert types_of(key) == {type}


@pytest.mark.parametrize("key", ["zp:", "zp:{default}:waterfall", "zp:{default}:free:2", "zp:{default}", "zp:{}:free"])
def test_other_keys_are_not_ours(key: str) -> None:
    assert types_of(key) == set()


def test_every_key_says_what_type_it_is_first_in_its_docstring() -> None:
    constants = {value for value in vars(keys).values() if isinstance(value, str)}
    silent = [
        pattern.pattern for pattern, type in known_keys() if not type and not any(map(pattern.fullmatch, constants))
    ]
    assert not silent, f"begin their docstrings in broker/keys.py with one of {sorted(TYPES)}: {silent}"

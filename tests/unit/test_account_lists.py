"""Lists of accounts: what is read from tables and from Zoom's users, and every mistake that is told."""

from __future__ import annotations

import pytest

from broker.errors import ImportRefused
from broker.models import Account
from broker.registry.account_lists import from_csv, from_zoom
from broker.zoom.models import User, UserType


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(ImportRefused) as refused:
        from_csv(text, "default")
    return refused.value.mistakes


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_table_is_read_whatever_the_office_program_makes_of_it(separator: str, newline: str) -> None:
    rows = (
        ("ID", " Email", "capacity", "credential"),
        ("host-1", "one@school.example ", "2", ""),
        ("", "two@s.e", "", "b"),
    )
    text = "\ufeff" + newline.join(separator.join(row) for row in rows) + newline + newline
    assert from_csv(text, "default") == (
        Account("host-1", "one@school.example", "", "default", 2),
        Account("two@s.e", "two@s.e", "", "b", 1),
    )


def test_one_column_is_enough() -> None:
    assert from_csv("zoom_user_id\nabc\n", "default", capacity=2) == (Account("abc", "", "abc", "default", 2),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "neither a column email nor zoom_user_id"),
        ("email\n", "has no accounts"),
        ("id,capacity\nhost,1\n", "neither a column email nor zoom_user_id"),
        ("email,mail\na@b.c,d\n", "unknown columns 'mail'"),
        ("email,id\na@b.c\n", "line 2: the line has more or fewer fields"),
        ("email\na@b.c,d,e\n", "line 2: the line has more or fewer fields"),
        ("email,id\n,host\n", "line 2: neither email nor zoom_user_id"),
        ("email,id\na@b.c,a b\n", "line 2: account 'a b' is not usable"),
        ("email,id\na+b@c.d,\n", "line 2: account 'a+b@c.d' is not usable"),
        ("email,zoom_user_id\na@b.c,me\n", "line 2: Zoom does not take 'me'"),
        ("email,capacity\na@b.c,0\n", "line 2: capacity '0'"),
        ("email,capacity\na@b.c,11\n", "line 2: capacity '11'"),
        ("email,capacity\na@b.c,99999999999999999999\n", "line 2: capacity"),
        ("email,capacity\na@b.c,²\n", "line 2: capacity '²'"),
        ("email\na@b.c\na@b.c\n", "line 3: account 'a@b.c' was there before"),
        ('email\n"a@b.c\n', "cannot be read"),
    ],
)
def test_mistake_is_told_with_its_line(text: str, told: str) -> None:
    (mistake,) = mistakes(text)
    assert told in mistake


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes("email,capacity\na@b.c,x\nb@b.c,1\n,1\n")
    assert [mistake.partition(":")[0] for mistake in found] == ["line 2", "line 4"]


def user(id: str, email: str, type: UserType = UserType.LICENSED, status: str = "active") -> User:
    return User(id=id, email=email, type=type, status=status)


def test_zooms_users_become_accounts_with_the_capacity_of_their_licence() -> None:
    users = [
        user("1", "licensed@s.e"),
        user("2", "basic@s.e", UserType.BASIC),
        user("3", "none@s.e", UserType.UNASSIGNED),
        user("4", "gone@s.e", status="inactive"),
        user("five", "with+plus@s.e"),
        user("-six", ""),
    ]
    assert from_zoom(users, "school", licensed_capacity=2) == (
        Account("licensed@s.e", "licensed@s.e", "1", "school", 2),
        Account("basic@s.e", "basic@s.e", "2", "school", 1),
        Account("five", "with+plus@s.e", "five", "school", 2),
        Account("zoom--six", "", "-six", "school", 2),
    )

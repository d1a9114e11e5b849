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
        ("id,email\none,a@b.c\ntwo,A@B.c\n", "line 3: Zoom user 'a@b.c' is account 'one' of this table already"),
        ("id,email,zoom_user_id\none,a@b.c,U1\ntwo,b@b.c,U1\n", "line 3: Zoom user 'U1' is account 'one'"),
        ("id,email,zoom_user_id\none,a@b.c,\ntwo,,a@b.c\n", "line 3: Zoom user 'a@b.c' is account 'one'"),
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


def test_user_who_is_an_account_already_stays_that_account() -> None:
    known = (
        Account("by-email", "ONE@s.e", "", "default", 1),
        Account("by-id", "old@s.e", "2", "default", 1),
        Account("nobody", "gone@s.e", "9", "default", 1),
    )
    users = [user("1", "one@s.e"), user("2", "two@s.e"), user("4", "four@s.e")]
    assert from_zoom(users, "school", licensed_capacity=2, known=known) == (
        Account("by-email", "one@s.e", "1", "school", 2),
        Account("by-id", "two@s.e", "2", "school", 2),
        Account("four@s.e", "four@s.e", "4", "school", 2),
    )


def test_id_says_more_than_an_e_mail() -> None:
    known = [Account("a", "x@s.e", "1", "default", 1), Account("b", "now@s.e", "2", "default", 1)]
    (account,) = from_zoom([user("1", "now@s.e")], "school", licensed_capacity=2, known=known)
    assert account.id == "a"


def test_new_user_does_not_take_the_name_of_another_account() -> None:
    known = [Account("one@s.e", "other@s.e", "9", "default", 1)]
    (account,) = from_zoom([user("first", "one@s.e")], "school", licensed_capacity=2, known=known)
    assert account.id == "first"


def test_two_users_of_one_account_are_refused() -> None:
    known = [Account("host", "a@s.e", "1", "default", 1)]
    with pytest.raises(ImportRefused, match="users '2' and '1' are both account 'host'"):
        from_zoom([user("2", "a@s.e"), user("1", "b@s.e")], "school", licensed_capacity=2, known=known)


def test_user_who_cannot_be_named_is_refused() -> None:
    with pytest.raises(ImportRefused, match="user 'ü' cannot be named"):
        from_zoom([user("ü", "with+plus@s.e")], "school", licensed_capacity=2)

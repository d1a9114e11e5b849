"""What is sent to Zoom, and the marker that ties a meeting to a lease."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from broker.errors import InvalidName
from broker.models import LeaseId, check_account, check_name
from broker.zoom.models import MAX_LISTED_AGENDA, CreateMeeting, Meeting, marker, parse_marker
from tests.zoom.scripted_zoom import (
    MARK,
)


def test_the_start_is_sent_in_utc_and_long_texts_are_cut_behind_the_marker() -> None:
    request = CreateMeeting(topic="т" * 500, marker=MARK, duration_min=1, agenda="a" * 5000)
    body = request.body(datetime(2026, 3, 4, 1, 30, tzinfo=timezone(timedelta(hours=3))))
    assert body["start_time"] == "2026-03-03T22:30:00Z"
    assert len(body["topic"]) == 200
    assert len(body["agenda"]) == 2000
    assert body["agenda"].startswith(MARK + "\na")


def test_a_creation_without_a_marker_is_not_possible() -> None:
    with pytest.raises(ValidationError):
        CreateMeeting(topic="x", marker="", duration_min=1)


@pytest.mark.parametrize("pool", ["default", "a:b", "x.y@z-1", "teacher-7"])
@pytest.mark.parametrize("account", ["anna", "anna@school.test", "a-b.c_d"])
def test_a_marker_is_read_back(pool: str, account: str) -> None:
    lease = LeaseId(account, 9, 123456)
    text = marker(lease, pool)
    assert parse_marker(f"{text}\nУрок") == (pool, lease)
    assert parse_marker(text[:-1]) is None


@pytest.mark.parametrize(
    "agenda", ["", "Урок", "zoompool:default:anna#0@1", "[zoompool:default:anna@1]", "[zoompool::anna#0@1]"]
)
def test_other_agendas_bear_no_marker(agenda: str) -> None:
    assert parse_marker(agenda) is None


def test_marker_of_the_longest_names_fits_into_what_lists_show() -> None:
    pool, account = check_name("pool", "p" * 100), check_account("a" * 100)
    longest = marker(LeaseId(account, 99, 10**16 - 1), pool)
    assert len(longest) <= MAX_LISTED_AGENDA
    assert parse_marker(longest) == (pool, LeaseId(account, 99, 10**16 - 1))
    with pytest.raises(InvalidName, match="1 to 100"):
        check_name("pool", "p" * 101)
    with pytest.raises(InvalidName, match="1 to 100"):
        check_account("a" * 101)


def test_a_meeting_from_a_list_has_no_start_url() -> None:
    assert Meeting.model_validate({"id": 1, "agenda": None}).start_url.get_secret_value() == ""

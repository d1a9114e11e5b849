"""Webhooks: signatures against vectors made with OpenSSL, lenient reading, and names for duplicates."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from broker.zoom.webhooks import (
    BadSignature,
    BadWebhook,
    WebhookEvent,
    dedupe_key,
    parse,
    url_validation_answer,
    verify,
)

SECRET = SecretStr("a-webhook-secret")
OLD = SecretStr("an-older-secret")
BODY = '{"event":"meeting.ended","note":"Урок"}'.encode()
STAMP = "1772661600"
NOW_S = 1772661600.0
WINDOW_S = 6000.0

# printf 'v0:1772661600:{"event":"meeting.ended","note":"Урок"}' | openssl dgst -sha256 -hmac a-webhook-secret
SIGNATURE = "v0=291de40fc6e5411241d42ba9434306a02ce1118d7616f270d827677f1af6b343"
# The same with -hmac an-older-secret
OLD_SIGNATURE = "v0=529f683c1517392689c21a2ba4db2fb87bb554d93b0cc3aac765aa8b04fe8699"
# printf 'qgg8vlvZRS6UYooatFL8Aw' | openssl dgst -sha256 -hmac a-webhook-secret
ANSWER = "b947dd6cfd11efdb8ecfe6dfafe2881064af8cabd8a7b452a69bb4a815414d2c"


def check(
    body: bytes = BODY,
    stamp: str = STAMP,
    signature: str = SIGNATURE,
    secrets: tuple[SecretStr, ...] = (SECRET, OLD),
    now_s: float = NOW_S,
) -> None:
    verify(body, stamp, signature, secrets, now_s, WINDOW_S)


@pytest.mark.parametrize("signature", [SIGNATURE, OLD_SIGNATURE])
@pytest.mark.parametrize("now_s", [NOW_S, NOW_S + WINDOW_S, NOW_S - WINDOW_S])
def test_zooms_signature_is_accepted_under_current_and_previous_secret(signature: str, now_s: float) -> None:
    check(signature=signature, now_s=now_s)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body": BODY.replace(b"ended", b"enden")}, "mismatch"),
        ({"body": json.dumps(json.loads(BODY)).encode()}, "mismatch"),
        ({"stamp": "1772661601"}, "mismatch"),
        ({"signature": SIGNATURE[:-1] + "0"}, "mismatch"),
        ({"signature": SIGNATURE.removeprefix("v0=")}, "mismatch"),
        ({"signature": SIGNATURE.upper()}, "mismatch"),
        ({"signature": "v0=подпись\ud800"}, "mismatch"),
        ({"signature": OLD_SIGNATURE, "secrets": (SECRET,)}, "mismatch"),
        ({"secrets": ()}, "mismatch"),
        ({"secrets": (SecretStr(""),)}, "mismatch"),
        ({"signature": ""}, "unsigned"),
        ({"stamp": ""}, "unsigned"),
        ({"stamp": "soon"}, "unsigned"),
        ({"stamp": "١٧٧٢٦٦١٦٠٠"}, "unsigned"),
        ({"stamp": "9" * 5000}, "unsigned"),
        ({"now_s": NOW_S + WINDOW_S + 1}, "stale"),
        ({"now_s": NOW_S - WINDOW_S - 1}, "stale"),
    ],
)
def test_anything_else_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadSignature) as caught:
        check(**change)
    assert caught.value.reason == reason
    assert SECRET.get_secret_value() not in str(caught.value)


def test_an_empty_secret_signs_nothing() -> None:
    """Else anybody could sign for a deployment whose secret was forgotten."""
    # printf 'v0:1772661600:{}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:00  (zero-padded: the same as empty)
    with pytest.raises(BadSignature):
        verify(
            b"{}",
            STAMP,
            "v0=6f0884293e60a5b991bca4e2e23075b263e54e109d7f5eb1b6f57f382d07c59e",
            [SecretStr("")],
            NOW_S,
            WINDOW_S,
        )


def test_url_validation_is_answered_with_the_hashed_token() -> None:
    answer = url_validation_answer("qgg8vlvZRS6UYooatFL8Aw", SECRET)
    assert answer == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": ANSWER}


def event(name: str = "meeting.ended", ts: int = 1772661600123, **thing: Any) -> WebhookEvent:
    return parse(
        json.dumps({"event": name, "event_ts": ts, "payload": {"account_id": "acc", "object": thing}}).encode()
    )


def test_a_meeting_event_is_read() -> None:
    ended = event(
        id="85746065432",
        uuid="4444AAAiAAAAAiAiAiiAii==",
        host_id="host1",
        host_email="a@b.c",
        start_time="2026-03-04T21:00:00Z",
        end_time="2026-03-04T22:00:00Z",
        duration=60,
    )
    assert ended == WebhookEvent(
        event="meeting.ended",
        event_ts=1772661600123,
        account_id="acc",
        meeting_id=85746065432,
        uuid="4444AAAiAAAAAiAiAiiAii==",
        host_id="host1",
        email="a@b.c",
        start_time_ms=1772658000000,
        end_time_ms=1772661600000,
    )


def test_a_meeting_id_may_be_text_or_a_number() -> None:
    assert event(id="85746065432").meeting_id == event(id=85746065432).meeting_id == 85746065432


@pytest.mark.parametrize("id_", [None, True, 1.5, "", "abc", "12 34", "-5", 0, -1, 2**63, "9" * 19, [], {}])
def test_a_senseless_meeting_id_is_no_id(id_: Any) -> None:
    assert event(id=id_).meeting_id is None


@pytest.mark.parametrize("ts", [None, -1, 2**53, 1.5, "now", True])
def test_a_senseless_time_is_none_at_all(ts: Any) -> None:
    assert event(ts=ts).event_ts == 0


def test_a_participant_is_known_by_this_stays_key() -> None:
    person = {"user_id": "16778240", "participant_uuid": "55555AAAiAAAAAiAiAiiAii", "id": "user9"}
    assert event("meeting.participant_joined", id="1", participant=person).participant == "55555AAAiAAAAAiAiAiiAii"
    del person["participant_uuid"]
    assert event("meeting.participant_left", id="1", participant=person).participant == "16778240"


def test_a_user_event_is_about_a_host_and_not_about_a_meeting() -> None:
    gone = event("user.deactivated", id="1234567", email="a@b.c")
    assert (gone.meeting_id, gone.host_id, gone.email) == (None, "1234567", "a@b.c")


def test_url_validation_is_read_and_its_token_kept_out_of_repr() -> None:
    asked = parse(b'{"event":"endpoint.url_validation","event_ts":1,"payload":{"plainToken":"plain123"}}')
    assert asked.plain_token == "plain123"
    assert "plain123" not in repr(asked)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"\xff\xff",
        b"[]",
        b'"meeting.ended"',
        b"{}",
        b'{"event": ""}',
        b'{"event": null}',
        b'{"event": {"a": 1}}',
        b"[" * 100_000,
        b'{"event": "x", "event_ts": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda raw: raw[:20].decode("latin-1"),
)
def test_other_bodies_are_refused(raw: bytes) -> None:
    with pytest.raises(BadWebhook):
        parse(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
)
things = st.dictionaries(
    st.sampled_from(["id", "uuid", "host_id", "host_email", "start_time", "end_time", "participant", "email"]),
    json_values,
)


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    payload=json_values | st.fixed_dictionaries({"object": things | json_values, "account_id": json_values}),
    ts=json_values,
    name=st.text(min_size=1),
)
def test_whatever_zoom_sends_becomes_an_event_that_json_and_redis_can_carry(payload: Any, ts: Any, name: str) -> None:
    read = parse(json.dumps({"event": name, "event_ts": ts, "payload": payload}).encode())
    fields = dataclasses.asdict(read)
    assert WebhookEvent(**json.loads(json.dumps(fields))) == read
    for value in fields.values():
        str(value).encode()
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,100}", dedupe_key(read))


def test_a_repeated_delivery_has_the_same_key_and_every_other_event_another() -> None:
    joined = event("meeting.participant_joined", id="1", uuid="u==", participant={"participant_uuid": "p1"})
    different = [
        event("meeting.participant_left", id="1", uuid="u==", participant={"participant_uuid": "p1"}),
        event("meeting.participant_joined", id="2", uuid="u==", participant={"participant_uuid": "p1"}),
        event("meeting.participant_joined", id="1", uuid="v==", participant={"participant_uuid": "p1"}),
        event("meeting.participant_joined", id="1", uuid="u==", participant={"participant_uuid": "p2"}),
        event("meeting.participant_joined", 5, id="1", uuid="u==", participant={"participant_uuid": "p1"}),
        event("user.deactivated", id="u1"),
        event("user.deactivated", id="u2"),
    ]
    repeated = event("meeting.participant_joined", id=1, uuid="u==", participant={"participant_uuid": "p1", "new": 1})
    assert dedupe_key(joined) == dedupe_key(repeated)
    assert len({dedupe_key(one) for one in [joined, *different]}) == len(different) + 1


def test_a_key_has_only_characters_that_a_job_id_may_have() -> None:
    odd = event("meeting.ended: {x}\n", id="1", uuid="/a//b==")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", dedupe_key(odd))

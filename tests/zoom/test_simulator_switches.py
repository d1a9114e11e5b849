"""Switches of the simulated Zoom that are thrown while it runs, over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.zoom.test_simulator_faults import HOST, Client, zoom


async def switch(client: Client, **changes: Any) -> dict[str, Any]:
    answer = await client.http.put("/sim/switches", json=changes)
    assert answer.status_code == 200, answer.text
    switches: dict[str, Any] = answer.json()
    return switches


async def listed(client: Client, kind: str) -> list[int]:
    answer = await client.http.get(f"/v2/users/{HOST}/meetings", params={"type": kind})
    return [meeting["id"] for meeting in answer.json()["meetings"]]


async def test_new_meeting_is_found_by_its_id_before_it_is_in_any_list() -> None:
    async with zoom() as client:
        await switch(client, listed_after_s=3600)
        number = (await client.create()).json()["id"]
        await client.http.post(f"/sim/meetings/{number}/join", json={"name": "teacher", "role": "host"})
        assert (await client.http.get(f"/v2/meetings/{number}")).json()["status"] == "started"
        kinds = ("scheduled", "upcoming", "live")
        assert [await listed(client, kind) for kind in kinds] == [[], [], []]
        await switch(client, listed_after_s=0)
        assert [await listed(client, kind) for kind in kinds] == [[number]] * 3


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [("not-allowed", 400, 3161), ("not-on-account", 400, 1010), ("unknown", 404, 1001)],
)
async def test_deactivated_user_is_refused_as_the_switch_says_and_still_found(how: str, status: int, code: int) -> None:
    async with zoom() as client:
        number = (await client.create()).json()["id"]
        await switch(client, inactive_user=how)
        await client.http.patch(f"/sim/hosts/{HOST}", json={"status": "inactive"})
        refused = [await client.create(), await client.http.delete(f"/v2/meetings/{number}")]
        assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(status, code)] * 2
        assert (await client.http.get(f"/v2/users/{HOST}")).json()["status"] == "inactive"
        await client.http.patch(f"/sim/hosts/{HOST}", json={"status": "active"})
        assert (await client.create()).status_code == 201


async def test_token_policy_changes_for_the_tokens_that_come() -> None:
    async with zoom() as client:
        first = client.http.headers["authorization"]
        await client.log_in()
        assert (await client.http.get("/v2/users", headers={"authorization": first})).status_code == 200
        await switch(client, token_policy="single-valid")
        await client.log_in()
        assert (await client.http.get("/v2/users", headers={"authorization": first})).status_code == 401


async def test_limits_come_and_go() -> None:
    async with zoom() as client:
        await switch(client, rate_limits={"enabled": True, "per_day": {"medium": 1}})
        answers = [await client.create() for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 429]
        assert answers[1].json()["message"].startswith("You have reached the maximum daily rate limit for this API.")
        await switch(client, rate_limits={"enabled": False})
        assert (await client.create()).status_code == 201


async def test_what_is_left_out_stays_and_nonsense_is_refused() -> None:
    async with zoom(over_capacity="reject") as client:
        switches = await switch(client, latency={"kind": "fixed", "ms": 1})
        assert (switches["over_capacity"], switches["latency"]["ms"]) == ("reject", 1)
        assert (await client.http.put("/sim/switches", json={"latency": "much"})).status_code == 422
        assert (await client.http.put("/sim/switches", json={"gravity": 0})).status_code == 422

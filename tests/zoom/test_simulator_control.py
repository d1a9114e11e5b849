"""The simulator's control routes, and the command that runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from broker.cli.simulate import compose_settings
from broker.errors import ConfigurationError
from broker.testing.zoom_simulator import OverCapacity, SimulatorFailed, SimulatorSettings, ZoomSimulator, load_hosts
from broker.testing.zoom_simulator.requests import CreateBody
from broker.testing.zoom_simulator.simulator import listen

HOST = "anna@school.example"


@contextlib.asynccontextmanager
async def control(settings: SimulatorSettings) -> AsyncIterator[tuple[ZoomSimulator, httpx.AsyncClient]]:
    simulator = ZoomSimulator(settings)
    transport = httpx.ASGITransport(simulator.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://zoom.test") as http:
        yield simulator, http


def create(simulator: ZoomSimulator, host: str = HOST) -> int:
    return simulator.world.create_meeting("demo-account", host, CreateBody).id


async def test_hosts_and_apps_can_be_added_and_changed_without_showing_secrets() -> None:
    async with control(SimulatorSettings()) as (simulator, http):
        added = await http.post("/sim/hosts", json={"email": HOST, "plan": "education"})
        assert (added.json()["capacity"], added.json()["running"]) == (2, [])
        assert (await http.post("/sim/hosts", json={"email": HOST})).status_code == 409
        assert (await http.patch(f"/sim/hosts/{HOST}", json={"capacity": 1})).json()["capacity"] == 1
        assert (await http.patch("/sim/hosts/nobody", json={})).status_code == 404
        assert [host["email"] for host in (await http.get("/sim/hosts")).json()["hosts"]] == [HOST]

        app = {"account_id": "demo-account", "client_id": "second", "client_secret": "top-secret"}
        texts = [(await http.post("/sim/apps", json=app)).text]
        assert (await http.post("/sim/apps", json=app)).status_code == 409
        texts.append((await http.patch("/sim/apps/second", json={"client_secret": "new-secret", "scopes": []})).text)
        texts.append((await http.get("/sim/apps")).text)
        texts.append((await http.post("/sim/apps", json={"client_secret": ["top-secret"]})).text)
        assert all("top-secret" not in text and "new-secret" not in text for text in texts)
        assert simulator.tokens.apps["second"].client_secret.get_secret_value() == "new-secret"


async def test_people_come_and_go() -> None:
    async with control(SimulatorSettings(hosts=load_hosts(f'[{{"email": "{HOST}"}}]'))) as (simulator, http):
        path = f"/sim/meetings/{create(simulator)}"
        early = (await http.post(f"{path}/join", json={"name": "pupil"})).json()
        assert (early["status"], early["meeting"]["status"]) == ("waiting_for_host", "waiting")
        teacher = (await http.post(f"{path}/join", json={"name": "teacher", "role": "host"})).json()
        assert (teacher["status"], teacher["meeting"]["status"]) == ("in_meeting", "started")
        assert {person["name"] for person in teacher["meeting"]["participants"]} == {"teacher", "pupil"}
        left = await http.post(f"{path}/leave", json={"participant_id": teacher["participant_id"]})
        assert left.json() == {"left": True}
        assert (await http.post(f"{path}/leave", json={"name": "teacher"})).json() == {"left": False}
        assert [person["name"] for person in (await http.get(path)).json()["participants"]] == ["pupil"]
        assert (await http.post(f"{path}/end")).json() == {"ended": True}
        assert (await http.post(f"{path}/end")).json() == {"ended": False}
        assert (await http.get("/sim/meetings")).json()["meetings"][0]["ends"] == 1
        assert (await http.post("/sim/meetings/1/join", json={"name": "x"})).status_code == 404


async def test_refused_start_is_a_conflict_and_the_judge_knows() -> None:
    settings = SimulatorSettings(hosts=load_hosts(f'[{{"email": "{HOST}"}}]'), over_capacity=OverCapacity.REJECT)
    async with control(settings) as (simulator, http):
        first, second = create(simulator), create(simulator)
        await http.post(f"/sim/meetings/{first}/join", json={"name": "teacher", "role": "host"})
        refused = await http.post(f"/sim/meetings/{second}/join", json={"name": "other", "role": "host"})
        assert (refused.status_code, refused.json()["error"]) == (409, "host_busy")
        verdict = (await http.get("/sim/judge")).json()
        assert (verdict["double_booked"], verdict["orphan_meetings"]) == (1, 2)
        assert verdict["double_bookings"][0]["meetings"] == [first, second]


async def test_calls_are_counted_by_operation() -> None:
    async with control(SimulatorSettings()) as (_, http):
        await http.get("/v2/users")
        await http.post("/oauth/token")
        assert (await http.get("/sim/calls")).json() == {"calls": {"list_users": 1, "token": 1}, "tokens_issued": 0}


# The command


def test_hosts_come_from_json_or_from_a_file(tmp_path: Path) -> None:
    text = json.dumps([{"email": HOST, "capacity": 3}])
    file = tmp_path / "hosts.json"
    file.write_text(text, encoding="utf-8")
    assert load_hosts(text) == load_hosts(str(file))
    assert load_hosts(text)[0].capacity == 3
    for bad in ("missing.json", '[{"mail": "x"}]', "[1"):
        with pytest.raises(ConfigurationError, match="hosts of the simulator"):
            load_hosts(bad)


def test_options_win_over_the_settings_they_change() -> None:
    base = json.dumps({"time_scale": 0.5, "seed": 9, "token_policy": "single-valid", "webhooks": {"loss": 0.1}})
    chosen, made_up = compose_settings(
        settings=base, accounts=3, capacities="1,2", seed=4, webhook_url="http://127.0.0.1:1/", webhook_secret="known"
    )
    assert (chosen.time_scale, chosen.seed, chosen.token_policy) == (0.5, 4, "single-valid")
    assert (chosen.webhooks.loss, chosen.webhooks.url) == (0.1, "http://127.0.0.1:1/")
    assert [host.capacity for host in chosen.hosts] == [1, 2, 1]
    assert set(made_up) == {"client secret"}
    assert made_up["client secret"] == chosen.apps[0].client_secret.get_secret_value()


@pytest.mark.parametrize("options", [{"capacities": "one"}, {"capacities": "0"}, {"settings": '{"sed": 1}'}])
def test_options_that_make_no_sense_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        compose_settings(**options)  # type: ignore[arg-type]


def test_taken_port_is_named_in_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SimulatorFailed, match=str(port)):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_command_says_how_to_reach_it_serves_and_stops_on_a_signal(stop: signal.Signals, tmp_path: Path) -> None:
    program = "import typer; from broker.cli.simulate import simulate_zoom; typer.run(simulate_zoom)"
    environment = os.environ | {
        "ZOOM_SIMULATOR_CLIENT_SECRET": "given-client",
        "ZOOM_SIMULATOR_WEBHOOK_SECRET": "given",
    }
    with (
        (tmp_path / "errors").open("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", program, "--port", "0", "--accounts", "2"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            lines: dict[str, str] = {}
            while "webhooks go to" not in lines:
                name, _, value = process.stdout.readline().partition("  ")
                assert name, errors.seek(0) or errors.read()
                lines[name] = value.strip()
            with httpx.Client(base_url=lines["ZOOMPOOL_ZOOM_OAUTH_BASE"], trust_env=False, timeout=10) as http:
                form = {"grant_type": "account_credentials", "account_id": lines["account id"]}
                token = http.post("/oauth/token", data=form, auth=(lines["client id"], "given-client"))
                headers = {"authorization": f"Bearer {token.json()['access_token']}"}
                assert http.get("/v2/users", headers=headers).json()["total_records"] == 2
            process.send_signal(stop)
            assert process.wait(timeout=10) in (0, -stop)
        finally:
            process.kill()
        errors.seek(0)
        assert "Traceback" not in errors.read()
    assert lines["hosts (2)"] == "host01@school.example, host02@school.example"
    assert "given-client" not in lines.values(), "a secret that was given is not repeated"

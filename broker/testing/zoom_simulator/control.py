"""The routes under `/sim`: who is in which meeting, what goes wrong, the verdict. No part of Zoom; no authorisation.

| route | does |
|---|---|
| `GET/POST /sim/hosts`, `PATCH/DELETE /sim/hosts/{id or e-mail}` | users of the accounts |
| `GET/POST /sim/apps`, `PATCH /sim/apps/{client_id}`, `DELETE /sim/tokens` | OAuth apps; revoke all tokens |
| `GET /sim/meetings`, `GET /sim/meetings/{id}` | what exists, and who is in it |
| `POST /sim/meetings/{id}/join` `{name, role: host or guest}` or `{name, start_url}` | somebody comes |
| `POST /sim/meetings/{id}/leave` `{participant_id}` or `{name}` | somebody goes |
| `POST /sim/meetings/{id}/end` | the host ends it for all |
| `GET/PUT /sim/webhooks`, `POST /sim/webhooks/validate` | receiver, faults, counts; URL validation |
| `GET/POST/DELETE /sim/faults`, `DELETE /sim/faults/{id}` | rules by which calls go wrong; see `faults` |
| `PUT /sim/switches` | latency, limits, token policy and the other switches; see `settings.Switches` |
| `GET /sim/calls` | how many calls of each kind arrived |
| `GET /sim/judge` | the verdict |
| `GET /sim/secrets` | the keys and tokens that were handed out, for who checks that nobody keeps them in the clear |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.errors import ConfigurationError
from broker.testing.zoom_simulator import payloads
from broker.testing.zoom_simulator.directory import HostPatch
from broker.testing.zoom_simulator.entities import Host, Meeting, Role
from broker.testing.zoom_simulator.faults import FaultRule
from broker.testing.zoom_simulator.lifecycle import HostBusy
from broker.testing.zoom_simulator.refusals import Refused
from broker.testing.zoom_simulator.settings import AppSpec, HostSpec, Switches, WebhookConfig

if TYPE_CHECKING:
    from broker.testing.zoom_simulator.simulator import ZoomSimulator

M = TypeVar("M", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JoinBody(_Body):
    """Somebody who comes. With a start_url its key decides on the role."""

    name: str = Field(min_length=1)
    role: Role = Role.GUEST
    start_url: SecretStr | None = None


class LeaveBody(_Body):
    """Somebody who goes."""

    participant_id: str = ""
    name: str = ""


class AppPatch(_Body):
    """What to change about an app; what is left out stays."""

    client_secret: SecretStr | None = None
    scopes: tuple[str, ...] | None = None
    enabled: bool | None = None


class Problem(Exception):
    """A control call that cannot be done."""

    def __init__(self, status: int, error: str, detail: Any = None) -> None:
        self.status = status
        self.error = error
        self.detail = detail
        super().__init__(error)


class Control:
    """The control routes.

    Args:
        zoom: whose parts they act upon.
    """

    def __init__(self, zoom: ZoomSimulator) -> None:
        self._zoom = zoom
        self._world = zoom.world
        self._tokens = zoom.tokens
        self._faults = zoom.faults
        self._webhooks = zoom.webhooks
        self._judge = zoom.judge
        self._api = zoom.api

    def routes(self) -> list[Route]:
        """All routes."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Any]]]] = [
            ("GET", "/sim/hosts", self._hosts),
            ("POST", "/sim/hosts", self._add_host),
            ("PATCH", "/sim/hosts/{host}", self._patch_host),
            ("DELETE", "/sim/hosts/{host}", self._remove_host),
            ("GET", "/sim/apps", self._apps),
            ("POST", "/sim/apps", self._add_app),
            ("PATCH", "/sim/apps/{client_id}", self._patch_app),
            ("DELETE", "/sim/tokens", self._revoke_tokens),
            ("GET", "/sim/meetings", self._meetings),
            ("GET", "/sim/meetings/{meeting:int}", self._meeting),
            ("POST", "/sim/meetings/{meeting:int}/join", self._join),
            ("POST", "/sim/meetings/{meeting:int}/leave", self._leave),
            ("POST", "/sim/meetings/{meeting:int}/end", self._end),
            ("GET", "/sim/webhooks", self._webhook_state),
            ("PUT", "/sim/webhooks", self._set_webhooks),
            ("POST", "/sim/webhooks/validate", self._validate),
            ("GET", "/sim/faults", self._rules),
            ("POST", "/sim/faults", self._add_rule),
            ("DELETE", "/sim/faults", self._remove_rules),
            ("DELETE", "/sim/faults/{rule:int}", self._remove_rules),
            ("PUT", "/sim/switches", self._switch),
            ("GET", "/sim/calls", self._calls),
            ("GET", "/sim/judge", self._verdict),
            ("GET", "/sim/secrets", self._secrets),
        ]
        return [Route(path, _answering(act), methods=[method]) for method, path, act in table]

    async def _hosts(self, request: Request) -> Any:
        return {"hosts": [_host(host) for host in self._world.hosts]}

    async def _add_host(self, request: Request) -> Any:
        return _host(self._world.hosts.add(await _read(request, HostSpec)))

    async def _patch_host(self, request: Request) -> Any:
        host = self._named_host(request)
        self._world.hosts.patch(host, await _read(request, HostPatch))
        return _host(host)

    async def _remove_host(self, request: Request) -> Any:
        self._world.remove_host(self._named_host(request))

    def _named_host(self, request: Request) -> Host:
        name = request.path_params["host"]
        host = self._world.hosts.look_up(name)
        if host is None:
            raise Problem(404, "no_such_host", name)
        return host

    async def _apps(self, request: Request) -> Any:
        return {"apps": [_app(app) for app in self._tokens.apps.values()]}

    async def _add_app(self, request: Request) -> Any:
        app = await _read(request, AppSpec)
        if app.client_id in self._tokens.apps:
            raise Problem(409, "exists", f"app {app.client_id} exists already; patch it instead")
        self._tokens.apps[app.client_id] = app
        return _app(app)

    async def _patch_app(self, request: Request) -> Any:
        app = self._tokens.apps.get(request.path_params["client_id"])
        if app is None:
            raise Problem(404, "no_such_app", request.path_params["client_id"])
        patch = await _read(request, AppPatch)
        changes = {name: value for name, value in patch if value is not None}
        self._tokens.apps[app.client_id] = app.model_copy(update=changes)
        return _app(self._tokens.apps[app.client_id])

    async def _revoke_tokens(self, request: Request) -> Any:
        return {"revoked": self._tokens.revoke()}

    async def _meetings(self, request: Request) -> Any:
        self._world.settle()
        return {"meetings": [_meeting(meeting) for meeting in self._world.meetings.values()]}

    async def _meeting(self, request: Request) -> Any:
        self._world.settle()
        meeting = self._world.meetings.get(request.path_params["meeting"])
        if meeting is None:
            raise Problem(404, "no_such_meeting", request.path_params["meeting"])
        return _meeting(meeting)

    async def _join(self, request: Request) -> Any:
        body, meeting_id = await _read(request, JoinBody), request.path_params["meeting"]
        zak = None
        if body.start_url is not None:
            zak = parse_qs(urlsplit(body.start_url.get_secret_value()).query).get("zak", [""])[0]
        try:
            person, inside = self._world.join(meeting_id, body.name, body.role, zak=zak)
        except HostBusy:
            raise Problem(409, "host_busy", "the host has another meeting in progress") from None
        return {
            "participant_id": person.id,
            "role": person.role.value,
            "status": "in_meeting" if inside else "waiting_for_host",
            "meeting": _meeting(self._world.meetings[meeting_id]),
        }

    async def _leave(self, request: Request) -> Any:
        body = await _read(request, LeaveBody)
        return {"left": self._world.leave(request.path_params["meeting"], body.participant_id or body.name)}

    async def _end(self, request: Request) -> Any:
        return {"ended": self._world.end_by_host(request.path_params["meeting"])}

    async def _webhook_state(self, request: Request) -> Any:
        return self._webhooks.state()

    async def _set_webhooks(self, request: Request) -> Any:
        """What is left out stays as it is."""
        changes = await _read(request, WebhookConfig)
        self._webhooks.config = self._webhooks.config.model_copy(
            update={name: getattr(changes, name) for name in changes.model_fields_set}
        )
        self._webhooks.enabled = True
        return self._webhooks.state()

    async def _validate(self, request: Request) -> Any:
        return await self._webhooks.validate()

    async def _rules(self, request: Request) -> Any:
        return {"faults": [rule.model_dump(mode="json") for rule in self._faults.rules.values()]}

    async def _add_rule(self, request: Request) -> Any:
        return self._faults.add(await _read(request, FaultRule)).model_dump(mode="json")

    async def _remove_rules(self, request: Request) -> Any:
        return {"removed": self._faults.remove(request.path_params.get("rule"))}

    async def _switch(self, request: Request) -> Any:
        """What is left out stays as it is."""
        self._zoom.switch(await _read(request, Switches))
        return self._zoom.settings.model_dump(mode="json", include=set(Switches.model_fields))

    async def _calls(self, request: Request) -> Any:
        return {"calls": dict(self._api.calls), "tokens_issued": self._tokens.issued}

    async def _verdict(self, request: Request) -> Any:
        self._world.settle()
        return self._judge.verdict()

    async def _secrets(self, request: Request) -> Any:
        return {"access_tokens": self._tokens.texts(), **self._world.handed_out()}


def _answering(act: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            answer = await act(request)
        except Problem as problem:
            return JSONResponse({"error": problem.error, "detail": problem.detail}, problem.status)
        except ConfigurationError as error:
            return JSONResponse({"error": "exists", "detail": str(error)}, 409)
        except Refused as refusal:
            return JSONResponse({"error": "refused", "detail": refusal.body}, refusal.status)
        return Response(status_code=204) if answer is None else JSONResponse(answer)

    return endpoint


async def _read(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        # Without the input: it may hold a secret.
        detail = error.errors(include_url=False, include_context=False, include_input=False)
        raise Problem(422, "invalid", detail) from None


def _host(host: Host) -> dict[str, Any]:
    return payloads.user(host) | {
        "account_id": host.account_id,
        "plan": host.plan.value,
        "capacity": host.capacity,
        "changes_today": host.changes,
        "meetings": list(host.meetings),
        "running": [meeting.id for meeting in host.running],
    }


def _app(app: AppSpec) -> dict[str, Any]:
    return app.model_dump(mode="json", exclude={"client_secret"})


def _meeting(meeting: Meeting) -> dict[str, Any]:
    def people(them: dict[str, Any]) -> list[dict[str, str]]:
        return [{"participant_id": each.id, "name": each.name, "role": each.role.value} for each in them.values()]

    return {
        "id": meeting.id,
        "uuid": meeting.uuid,
        "host": meeting.host.email,
        "host_id": meeting.host.id,
        "topic": meeting.topic,
        "agenda": meeting.agenda,
        "type": meeting.type,
        "status": meeting.status.value,
        "ends": meeting.ends,
        "participants": people(meeting.participants),
        "lobby": people(meeting.lobby),
    }

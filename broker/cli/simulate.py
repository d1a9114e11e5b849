"""`zoompool simulate-zoom`: a fake Zoom to develop, demonstrate and test against."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.errors import ConfigurationError

if TYPE_CHECKING:
    from broker.testing.zoom_simulator import SimulatorSettings

PREFIX = "ZOOM_SIMULATOR_"
SHOWN_HOSTS = 5


def simulate_zoom(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Whoever reaches it may do everything.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8090,
    accounts: Annotated[
        int | None, typer.Option(min=1, envvar=f"{PREFIX}ACCOUNTS", help="How many example hosts (12 unless given).")
    ] = None,
    capacities: Annotated[
        str | None,
        typer.Option(
            envvar=f"{PREFIX}CAPACITIES",
            help="Meetings at a time of the example hosts, taken in turn (1,2 unless given).",
        ),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            envvar=f"{PREFIX}HOSTS",
            help='Hosts instead of examples: a file, or JSON such as \'[{"email": "anna@school.example"}]\'.',
        ),
    ] = None,
    webhook_url: Annotated[
        str | None, typer.Option(envvar=f"{PREFIX}WEBHOOK_URL", help="Where events go; without it nowhere.")
    ] = None,
    latency_ms: Annotated[
        float | None,
        typer.Option(min=0, envvar=f"{PREFIX}LATENCY_MS", help="How long each answer takes (0 unless given)."),
    ] = None,
    time_scale: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            envvar=f"{PREFIX}TIME_SCALE",
            help="Multiplies Zoom's delays: webhooks, retries (1 unless given).",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(envvar=f"{PREFIX}SEED", help="Of everything that is left to chance (1 unless given).")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            envvar=f"{PREFIX}SETTINGS",
            help="All settings (token policy, latencies, limits, …): a JSON file, or JSON; the other options win.",
        ),
    ] = None,
    webhook_secret: Annotated[
        str | None,
        typer.Option(
            envvar=f"{PREFIX}WEBHOOK_SECRET",
            help="Signs webhooks; random when not given. Prefer the variable: `ps` shows options.",
        ),
    ] = None,
    client_secret: Annotated[
        str | None,
        typer.Option(
            envvar=f"{PREFIX}CLIENT_SECRET",
            help="Of the example OAuth app; random when not given. Prefer the variable: `ps` shows options.",
        ),
    ] = None,
) -> None:
    """Run a fake Zoom until it is told to stop: OAuth, the API, webhooks, faults, and a judge that sees everything.

    People join and leave through /sim/meetings/{id}/join and /leave; the verdict is at /sim/judge.
    """
    from broker import logs
    from broker.settings import load_settings
    from broker.testing.zoom_simulator import ZoomSimulator
    from broker.testing.zoom_simulator.simulator import base_url, listen

    logs.configure(load_settings())
    chosen, made_up = compose_settings(
        settings=settings,
        hosts=hosts,
        accounts=accounts,
        capacities=capacities,
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        client_secret=client_secret,
        latency_ms=latency_ms,
        time_scale=time_scale,
        seed=seed,
    )
    listening = listen(host, port)
    try:
        _introduce(base_url(listening), chosen, made_up)
        # The server stops in good order on Ctrl-C and then raises it again, for callers that want to know.
        with contextlib.suppress(KeyboardInterrupt):
            ZoomSimulator(chosen).run(listening)
    finally:
        listening.close()


def compose_settings(
    *,
    settings: str | None = None,
    hosts: str | None = None,
    accounts: int | None = None,
    capacities: str | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    client_secret: str | None = None,
    latency_ms: float | None = None,
    time_scale: float | None = None,
    seed: int | None = None,
) -> tuple[SimulatorSettings, dict[str, str]]:
    """Settings from the options; what is None comes from `settings`, or else from the defaults.

    Returns:
        The settings, and those secrets that had to be made up, so that somebody can be told of them.

    Raises:
        ConfigurationError: an option cannot be understood.
    """
    import secrets

    from pydantic import SecretStr

    from broker.testing.zoom_simulator import AppSpec, Latency, example_hosts, load_hosts

    chosen = _base(settings)
    changes: dict[str, Any] = {}
    made_up: dict[str, str] = {}
    if hosts is not None:
        changes["hosts"] = load_hosts(hosts)
    elif accounts is not None or capacities is not None or not chosen.hosts:
        changes["hosts"] = example_hosts(12 if accounts is None else accounts, _numbers(capacities or "1,2"))
    if client_secret:
        changes["apps"] = (AppSpec(client_secret=SecretStr(client_secret)),)
    elif "apps" not in chosen.model_fields_set:
        made_up["client secret"] = chosen.apps[0].client_secret.get_secret_value()
    webhooks: dict[str, Any] = {}
    if webhook_url is not None:
        webhooks["url"] = webhook_url
    if webhook_secret:
        webhooks["secret"] = SecretStr(webhook_secret)
    elif not chosen.webhooks.secret.get_secret_value():
        made_up["webhook secret"] = secrets.token_urlsafe(24)
        webhooks["secret"] = SecretStr(made_up["webhook secret"])
    changes["webhooks"] = chosen.webhooks.model_copy(update=webhooks)
    if latency_ms is not None:
        changes["latency"] = Latency(ms=latency_ms)
    changes |= {name: value for name, value in (("time_scale", time_scale), ("seed", seed)) if value is not None}
    return chosen.model_copy(update=changes), made_up


def _base(source: str | None) -> SimulatorSettings:
    from pydantic import ValidationError

    from broker.testing.zoom_simulator import SimulatorSettings

    if not source:
        return SimulatorSettings()
    try:
        text = source if source.lstrip().startswith("{") else Path(source).read_text(encoding="utf-8")
        return SimulatorSettings.model_validate_json(text)
    except OSError as error:
        raise ConfigurationError(f"settings of the simulator cannot be read: {error}") from error
    except ValidationError as error:
        # Without the input: it holds secrets.
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'JSON'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigurationError(f"settings of the simulator: {problems}") from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigurationError(f"--capacities {text!r} must be numbers with commas between, such as 1,2") from None


def _introduce(url: str, settings: SimulatorSettings, made_up: dict[str, str]) -> None:
    """Say how to reach it. Secrets that were given are not repeated; those made up are needed by whoever started it."""
    names = [host.email for host in settings.hosts]
    more = f" … {names[-1]}" if len(names) > SHOWN_HOSTS else ""
    app = settings.apps[0] if settings.apps else None
    lines = {
        "ZOOMPOOL_ZOOM_OAUTH_BASE": url,
        "ZOOMPOOL_ZOOM_API_BASE": f"{url}/v2",
        "control and judge": f"{url}/sim/judge",
        f"hosts ({len(names)})": ", ".join(names[:SHOWN_HOSTS]) + more,
        "account id": app.account_id if app else "none",
        "client id": app.client_id if app else "none",
        **made_up,
        "webhooks go to": settings.webhooks.url or "nowhere (give --webhook-url, or PUT /sim/webhooks)",
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}", flush=True)

"""Settings: what cannot be used is refused when a process starts, by name and never by value."""

from __future__ import annotations

import pytest

from broker.errors import ConfigurationError
from broker.settings import load_settings
from tests import factories

SECRET = "made-up-password"


def refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """What is said against a value of a variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    said = str(caught.value)
    assert SECRET not in said
    assert SECRET not in repr(caught.value.__cause__)
    return said


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:port/0",
        f"redis://:{SECRET}@localhost:65536/0",
        f"redis://:{SECRET}@localhost?db=first",
        f"redis://:{SECRET}@[::1",
    ],
)
def test_url_that_is_none_of_redis_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert "REDIS_URL: it is not a Redis URL" in refused(monkeypatch, "REDIS_URL", url)


@pytest.mark.parametrize(
    "url",
    ["redis://localhost", "rediss://u:p@redis.school.example:6380/1", "unix:///run/redis.sock", "redis://[::1]:1"],
)
def test_every_form_of_redis_url_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load_settings().redis_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ZOOMPOOL_ZOOM_LIMITS", f"{{{SECRET}"),
        ("ZOOMPOOL_ZOOM_LIMITS", f'{{"medium": {{"per_s": "{SECRET}"}}}}'),
        ("ZOOMPOOL_CLAIM_TTL_S", SECRET),
    ],
)
def test_value_of_a_wrong_kind_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert name.removeprefix("ZOOMPOOL_").lower() in refused(monkeypatch, name, value).lower()


@pytest.mark.parametrize("name", ["ZOOMPOOL_JWT_KEY", "ZOOMPOOL_WEBHOOK_SECRET"])
def test_placeholder_is_no_secret_in_production(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert name in refused(monkeypatch, name, "changeme")
    monkeypatch.setenv("ZOOMPOOL_ENVIRONMENT", "development")
    assert load_settings().environment == "development"


def test_attempt_that_could_still_be_under_way_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOMPOOL_ZOOM_TIMEOUT_S", "20")
    assert "attempt_ttl_s" in refused(monkeypatch, "ZOOMPOOL_ATTEMPT_TTL_S", "20")
    assert "create_ttl_s" in refused(monkeypatch, "ZOOMPOOL_ATTEMPT_TTL_S", "30")


def test_no_secret_is_in_the_repr() -> None:
    names = ("jwt_key", "webhook_secret", "webhook_secret_previous", "notify_secret", "notify_secret_previous")
    settings = factories.settings(secret_keys=SECRET, **dict.fromkeys(names, SECRET))
    assert SECRET not in repr(settings)

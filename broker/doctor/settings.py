"""Are the settings there without which parts of the service are off?"""

from __future__ import annotations

from collections.abc import Iterator

from broker.doctor.finding import Finding, Level, failure
from broker.errors import ZoomPoolError
from broker.secrets import SecretBox
from broker.settings import Settings


def check_settings(settings: Settings) -> Iterator[Finding]:
    """The secrets; none of them is shown."""
    try:
        SecretBox(settings.secret_keys)
    except ZoomPoolError as error:
        yield failure("settings.secret_keys", error)
    else:
        yield Finding("settings.secret_keys", Level.OK, "secrets in Redis are encrypted")
    if settings.webhook_secret.get_secret_value():
        yield Finding("settings.webhook_secret", Level.OK, "webhooks are verified")
    else:
        says = "there is no webhook secret, so Zoom's webhooks are refused, and hosts come back minutes late"
        do = "set ZOOMPOOL_WEBHOOK_SECRET to the Secret Token of the app's event subscription at the Zoom marketplace"
        yield Finding("settings.webhook_secret", Level.FAILED, says, do)
    if settings.jwt_key.get_secret_value() or settings.jwt_jwks_url:
        yield Finding("settings.jwt", Level.OK, "tokens of the web app can be checked")
    else:
        says = "there is no key to check tokens with, so the API lets nobody in"
        yield Finding("settings.jwt", Level.FAILED, says, "set ZOOMPOOL_JWT_KEY or ZOOMPOOL_JWT_JWKS_URL")

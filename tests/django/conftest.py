"""A minimal real Django project, its files taken word for word from the guide, beside the real zoompool processes."""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from broker.jobs import QueueName
from broker.testing.environment import HOST, example_accounts, free_ports
from broker.testing.process import Process
from broker.testing.stack import Stack, answers
from broker.testing.zoom_simulator import HostSpec, Latency, SimulatorSettings

GUIDE = Path(__file__).parents[2] / "docs" / "django.md"
ACCOUNTS = example_accounts(2, (1,))
ZOOM = SimulatorSettings(
    time_scale=0.02,
    latency=Latency(ms=20),
    hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in ACCOUNTS),
)
SETTINGS = """
import os
SECRET_KEY = os.environ["SITE_KEY"]
ZOOMPOOL_NOTIFY_SECRET = os.environ["SITE_NOTIFY_SECRET"]
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "school"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SITE_DATABASE"],
                         "OPTIONS": {"timeout": 20}}}
ROOT_URLCONF = "school.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
SET_UP = """
import django
django.setup()
from django.contrib.auth.models import User
from school.models import Lesson
for name in ("anna", "boris"):
    user = User.objects.create_user(name, password="made-up-" + name)
    Lesson.objects.create(title="Алгебра", teacher=user)
"""


@dataclass(frozen=True)
class Site:
    """The web app as its users and its database see it."""

    url: str
    database: Path
    folder: Path
    environment: dict[str, str]

    def token(self, user: str) -> str:
        """The access token that SimpleJWT gives to a user."""
        answer = httpx.post(
            f"{self.url}/api/token/",
            json={"username": user, "password": f"made-up-{user}"},
            timeout=20,
            trust_env=False,
        )
        answer.raise_for_status()
        return str(answer.json()["access"])

    def lesson(self, id: int) -> tuple[int | None, str, str]:
        """`zoom_meeting_id`, `zoom_join_url` and `zoom_state` of a lesson."""
        with sqlite3.connect(self.database, timeout=20) as connection:
            columns = "zoom_meeting_id, zoom_join_url, zoom_state"
            row: tuple[int | None, str, str] = connection.execute(
                f"SELECT {columns} FROM school_lesson WHERE id = ?", (id,)
            ).fetchone()
            return row

    def run(self, code: str) -> str:
        """Run Python in the project; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def write_project(folder: Path) -> None:
    """Write the files that the guide shows with a title."""
    blocks = re.findall(r'^```python title="([\w/.]+)"\n(.*?)^```', GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4, "the guide has lost its files"
    for name, text in blocks:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    (folder / "school" / "__init__.py").touch()
    (folder / "site_settings.py").write_text(SETTINGS, "utf-8")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Site]]:
    """zoompool and the web app, each knowing the other."""
    folder = tmp_path_factory.mktemp("site")
    write_project(folder)
    (port,) = free_ports(1)
    signing_key, notify_secret = secrets.token_urlsafe(48), "whsec_" + "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpdGU="
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ZOOMPOOL_")},
        "DJANGO_SETTINGS_MODULE": "site_settings",
        "PYTHONPATH": str(folder),
        "SITE_KEY": signing_key,
        "SITE_NOTIFY_SECRET": notify_secret,
        "SITE_DATABASE": str(folder / "site.sqlite3"),
    }
    site = Site(f"http://{HOST}:{port}", folder / "site.sqlite3", folder, environment)
    django = [sys.executable, "-m", "django"]
    subprocess.run([*django, "migrate", "--run-syncdb", "-v", "0"], env=environment, cwd=folder, check=True, timeout=60)
    site.run(SET_UP)
    settings = {
        "jwt_key": SecretStr(signing_key),
        "notify_url": f"{site.url}/zoom/notifications/",
        "notify_secret": SecretStr(notify_secret),
        "notify_allowed_hosts": (HOST,),
        "relay_interval_s": 3,
    }
    process = Process(
        "django",
        [*django, "runserver", "--noreload", f"{HOST}:{port}"],
        environment=environment,
        log=folder / "django.log",
        ready=answers(port, "/api/token/", statuses=(405,)),
    )
    workers = dict.fromkeys(QueueName, 1)
    try:
        process.start()
        with Stack(ACCOUNTS, workers=workers, settings=settings, zoom=ZOOM) as stack:
            yield stack, site
    finally:
        process.stop()

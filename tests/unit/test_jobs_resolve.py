"""The API enqueues jobs by name; every name has to lead to a coroutine function that takes plain JSON values."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from rq.utils import import_attribute

from broker.jobs import ALL, JobSpec, once_per
from broker.settings import Settings
from workers.quarantine import next_utc_midnight_ms
from workers.schedule import periodic


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.function)
def test_every_job_name_leads_to_a_coroutine_function(spec: JobSpec) -> None:
    function = import_attribute(spec.function)
    assert inspect.iscoroutinefunction(function)
    assert (inspect.getdoc(function) or "").startswith("Job: ")


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.function)
def test_every_job_has_a_retry_or_runs_again_with_its_period(spec: JobSpec) -> None:
    told = Settings(notify_url="https://web.example/", notify_secret=SecretStr("whsec_bWFkZS11cA=="))
    assert spec.retry_after_s or spec in dict(periodic(told))
    assert spec.timeout_s > 0


def test_same_work_in_one_period_has_one_id_and_other_work_another() -> None:
    spec = ALL[0]
    long = 10**9
    assert once_per(spec, ("default", "a#0@1"), long) == once_per(spec, ("default", "a#0@1"), long)
    assert once_per(spec, ("default", "a#0@1"), long) != once_per(spec, ("default", "a#0@12"), long)
    assert once_per(spec, ("ab", "c"), long) != once_per(spec, ("a", "bc"), long)


def test_daily_limits_end_at_the_next_midnight_in_utc() -> None:
    noon = datetime(2026, 3, 28, 12, tzinfo=UTC)
    expected = datetime(2026, 3, 29, tzinfo=UTC)
    assert next_utc_midnight_ms(round(noon.timestamp() * 1000)) == round(expected.timestamp() * 1000)

"""Which scopes an app lacks."""

from __future__ import annotations

from broker.testing.zoom_simulator.settings import Scope
from broker.zoom.scopes import NEEDED, missing


def test_app_with_all_scopes_and_more_lacks_none() -> None:
    assert missing([*NEEDED, "dashboard:read:list_meetings:admin"]) == ()


def test_what_is_lacking_is_named_in_a_fixed_order() -> None:
    assert missing(["meeting:read:meeting:admin"]) == tuple(
        scope for scope in NEEDED if scope != "meeting:read:meeting:admin"
    )
    assert missing([]) == NEEDED


def test_classic_scopes_stand_for_the_granular_ones() -> None:
    assert missing(["meeting:write:admin", "meeting:read:admin", "user:read:admin"]) == ()
    assert missing(["meeting:write:admin", "user:read:admin"]) == (
        "meeting:read:meeting:admin",
        "meeting:read:list_meetings:admin",
    )


def test_simulator_asks_for_no_scope_that_is_not_needed_except_one_the_broker_never_uses() -> None:
    assert set(Scope) - set(NEEDED) == {Scope.READ_PAST}

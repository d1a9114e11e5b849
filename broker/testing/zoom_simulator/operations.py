"""The calls that are simulated: what scope each needs, and which of Zoom's rate limits it counts against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.testing.zoom_simulator.settings import Scope

LIGHT, MEDIUM = "light", "medium"


class Operation(StrEnum):
    """A call to Zoom, by the name that settings and counts use."""

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    CREATE_MEETING = "create_meeting"
    GET_MEETING = "get_meeting"
    MEETING_STATUS = "meeting_status"
    DELETE_MEETING = "delete_meeting"
    LIST_MEETINGS = "list_meetings"
    PAST_MEETING = "past_meeting"
    GET_USER = "get_user"
    LIST_USERS = "list_users"


@dataclass(frozen=True)
class Terms:
    """What a call needs.

    Attributes:
        scope: the OAuth scope.
        category: the rate limit it counts against.
    """

    scope: Scope
    category: str


TERMS = {
    Operation.CREATE_MEETING: Terms(Scope.CREATE, MEDIUM),
    Operation.GET_MEETING: Terms(Scope.READ, LIGHT),
    Operation.MEETING_STATUS: Terms(Scope.STATUS, LIGHT),
    Operation.DELETE_MEETING: Terms(Scope.DELETE, LIGHT),
    Operation.LIST_MEETINGS: Terms(Scope.LIST, MEDIUM),
    Operation.PAST_MEETING: Terms(Scope.READ_PAST, LIGHT),
    Operation.GET_USER: Terms(Scope.READ_USER, LIGHT),
    Operation.LIST_USERS: Terms(Scope.LIST_USERS, MEDIUM),
}

"""Everything that speaks with Zoom: the client, its access tokens, its errors, and the webhooks that come back."""

from broker.zoom.auth import TokenSource
from broker.zoom.client import ZoomClient, open_zoom
from broker.zoom.errors import Kind, ZoomError, classify
from broker.zoom.models import CreateMeeting, Meeting, MeetingList, User, UserType, marker, parse_marker

__all__ = [
    "CreateMeeting",
    "Kind",
    "Meeting",
    "MeetingList",
    "TokenSource",
    "User",
    "UserType",
    "ZoomClient",
    "ZoomError",
    "classify",
    "marker",
    "open_zoom",
    "parse_marker",
]

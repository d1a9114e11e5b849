"""For browsers: the module that starts lessons, and a small teacher's page that shows it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

STATIC = Path(str(files("api") / "static"))
# Nothing but our own files runs in the page. A tab that it opens inherits this until it goes to Zoom.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"

router = APIRouter(include_in_schema=False)


@router.get("/teacher/")
async def teacher() -> FileResponse:
    """The teacher's page."""
    headers = {
        "Content-Security-Policy": f"{POLICY}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return FileResponse(STATIC / "teacher.html", headers=headers)


def mount_static(app: FastAPI) -> None:
    """Serve the module, the page's scripts and its style below `/static`."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

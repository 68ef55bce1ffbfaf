"""/docs: the operations as one small page. It loads nothing from anywhere, so it works without the internet."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from broker.server.auth import RIGHT_FIELD

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
code,pre{font:13px/1.4 ui-monospace,monospace}pre{background:#f4f4f4;padding:.7rem;overflow:auto}
summary{cursor:pointer}.m{display:inline-block;width:4rem;font-weight:600}.s{color:#666;float:right}
"""
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def install(app: FastAPI) -> None:
    """Adds the page."""

    async def page(request: Request) -> Response:
        return HTMLResponse(render(app.openapi()), headers=_HEADERS)

    app.add_route("/docs", page, methods=["GET"], include_in_schema=False)


def render(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{escape(info.get('description', ''))}</p><p>For programs: <a href=/openapi.json>/openapi.json</a></p>"
        + "".join(operations)
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = operation.get(RIGHT_FIELD, "open to everyone")
    parameters = ", ".join(one["name"] for one in operation.get("parameters", ()) if one["in"] != "path")
    sent = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    parts = [
        f"<details><summary><span class=s>{escape(scope)}</span><span class=m>{escape(method.upper())}</span>"
        f"<code>{escape(path)}</code> {escape(operation.get('summary', ''))}</summary>",
        f"<p>{escape(operation.get('description', ''))}</p>",
        f"<p>Parameters: <code>{escape(parameters)}</code></p>" if parameters else "",
        f"<p>Body</p>{_json(sent)}" if sent is not None else "",
    ]
    for status, answer in operation["responses"].items():
        example = answer.get("content", {}).get("application/json", {}).get("example")
        parts.append(f"<p>{escape(str(status))}: {escape(answer['description'])}</p>{_json(example)}")
    return "".join([*parts, "</details>"])


def _json(example: object) -> str:
    return "" if example is None else f"<pre>{escape(json.dumps(example, indent=1))}</pre>"

"""Which pages may ask, and what the page itself may do."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from sottovoce.serve import ServedModel, make_app

HERE = "127.0.0.1:8765"


@pytest.mark.parametrize(
    ("host", "origin", "served"),
    [
        (HERE, None, True),  # a program, no browser
        (HERE, f"http://{HERE}", True),
        ("localhost:8765", "http://localhost:8765", True),
        ("LOCALHOST:8765", "http://localhost:8765", True),
        ("[::1]:8765", "http://[::1]:8765", True),
        ("192.168.1.7:8765", "http://192.168.1.7:8765", True),
        ("speech.example", "https://speech.example", True),  # named by --allow-host, behind a proxy
        (HERE, "https://elsewhere.example", False),
        (HERE, "http://localhost:8765", False),
        (HERE, "http://127.0.0.1:9000", False),
        (HERE, "null", False),
        (HERE, "", False),
        (HERE, f"http://{HERE}.elsewhere.example", False),
        ("elsewhere.example:8765", "http://elsewhere.example:8765", False),  # its name made to point here
        ("elsewhere.example:8765", None, False),
        ("", None, False),
        ("[::1", None, False),
    ],
)
def test_pages_of_other_origins_and_unknown_names_are_refused(
    models: list[ServedModel], host: str, origin: str | None, served: bool
) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    with TestClient(make_app(models, hosts=["speech.example"]), base_url=f"http://{HERE}") as client:
        answer = client.get("/models", headers=headers)
        assert answer.status_code == (200 if served else 403)
        assert served or (answer.text.count("\n") == 1 and "models" not in answer.text)
        if served:
            with client.websocket_connect(f"ws://{HERE}/live", headers=headers) as socket:
                assert socket.receive_json()["type"] == "ready"
        else:
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(f"ws://{HERE}/live", headers=headers):
                pass


def test_the_page_has_a_policy_and_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'") and "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["referrer-policy"] == "no-referrer"
    assert "microphone=(self)" in page.headers["permissions-policy"] and "server" not in page.headers
    asked = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    assert asked == {"page.css", "page.js", "icon.svg"}
    for name in (*asked, "words.js", "microphone.js"):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and answer.headers["content-security-policy"] == policy
    for file in files("sottovoce.serve").joinpath("page").iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), file.name
        assert not re.search(r"style=|onclick=|eval\(|innerHTML", text), file.name
    for path in ("/docs", "/openapi.json", "/page.html", "/../limits.py", "/live"):
        assert client.get(path).status_code == 404


def test_it_runs_without_pytorch() -> None:
    script = "import sottovoce.cli.serve, sys; assert not {'torch', 'lhotse', 'scipy', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)

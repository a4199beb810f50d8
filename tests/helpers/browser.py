"""A headless Chromium, steered through its driver by the W3C WebDriver protocol."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any

__all__ = ["Browser", "installed"]

_KEYS = {"Tab": "\ue004", "Enter": "\ue007", "ArrowUp": "\ue013", "ArrowDown": "\ue015"}


def _programs() -> tuple[str | None, str | None]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    return browser or shutil.which("google-chrome"), shutil.which("chromedriver")


def installed() -> bool:
    """Whether there are a browser and its driver."""
    return all(_programs())


class Browser:
    """A browser for the length of a ``with`` block."""

    def __enter__(self) -> "Browser":
        browser, driver = _programs()
        assert browser and driver
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._at = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._wait()
            arguments = ["--headless=new", "--no-sandbox", "--disable-gpu",
                         "--disable-dev-shm-usage", "--window-size=1440,1700"]  # fmt: skip
            options = {"binary": browser, "args": arguments}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._at += f"/session/{session['sessionId']}"
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(timeout=20)

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector: str) -> str:
        return self.run(f"return document.querySelector({selector!r}).textContent.trim()")

    def press(self, *keys: str) -> None:
        for key in keys:
            actions = [{"type": kind, "value": _KEYS[key]} for kind in ("keyDown", "keyUp")]
            self._ask("POST", "/actions",
                      {"actions": [{"type": "key", "id": "keys", "actions": actions}]})  # fmt: skip

    def errors(self) -> list[str]:
        """What the console got since it was last asked, warnings left out."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self) -> bytes:
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def _wait(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            assert time.monotonic() < until, "the browser's driver does not answer"
            time.sleep(0.1)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._at + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:500]) from None

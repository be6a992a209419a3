"""A real Chromium without a window, driven through its DevTools protocol over a pipe: no driver, no port, no library.

As a script it takes a small picture of a page, such as the one in the README:

    python tests/browser.py runs/demo-scenes/results/report.html docs/report.png --width 1240 --height 800 \\
        --first "document.querySelectorAll('.word')[7].click(); document.querySelector('.tools').scrollIntoView()"
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image as Picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab. Use as a context manager. errors : what its console complained of, and scripts that failed."""

    def __init__(self) -> None:
        assert CHROMIUM is not None, "there is no Chromium"
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()

        def pipes() -> None:  # the protocol is spoken on descriptors 3 and 4
            os.dup2(os.dup(to_browser), 3)
            os.dup2(os.dup(from_browser), 4)

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
        options += ["--no-first-run", "--disable-extensions", "--remote-debugging-pipe"]
        command = [CHROMIUM, *options, f"--user-data-dir={self._profile.name}", "about:blank"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, **quiet)
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, ""
        self.errors: list[str] = []
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait()
        self._profile.cleanup()

    def open(self, page: Path | str, *, width: int = 1280, height: int = 900) -> None:
        """Show a file from disk, or what an address has, in a window of this size, and wait until it is loaded."""
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Page.navigate", url=address)
        while self.run("document.readyState + location.protocol") != f"complete{address.partition(':')[0]}:":
            time.sleep(0.02)

    def wait(self, script: str, *, seconds: float = 60) -> None:
        """Wait until an expression in the page is true."""
        deadline = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < deadline, f"not within {seconds} s: {script}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys: a letter or blank, "Tab" or "Enter"."""
        for key in keys:
            code = {"Tab": 9, "Enter": 13}.get(key, ord(key[0].upper()))
            text = {"Tab": {}, "Enter": {"text": "\r"}}.get(key, {"text": key})
            about = {"key": key, "windowsVirtualKeyCode": code}
            self._call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self._call("Input.dispatchKeyEvent", type="keyUp", **about)

    def run(self, script: str) -> Any:
        """The value of an expression in the page. A script that fails is an AssertionError."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """What the window shows, as PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            content = os.read(self._from, 2**20)
            assert content, "Chromium has ended"
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(parameters["args"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])


def main() -> None:
    """Take a picture of a page, with few colours, so that it is small."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--first", default="", help="script to run before, for example to scroll")
    arguments = parser.parse_args()
    with Browser() as browser:
        browser.open(arguments.page, width=arguments.width, height=arguments.height)
        if arguments.first:
            browser.run(arguments.first)
        time.sleep(0.5)  # pictures are decoded when they come into view
        browser.screenshot(arguments.picture)
        assert not browser.errors, browser.errors
    with Picture.open(arguments.picture) as picture:
        small = picture.convert("RGB").quantize(128, dither=Picture.Dither.NONE)
    small.save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()

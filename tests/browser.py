"""What a browser makes of a page: read by hand, or in headless Chromium."""

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

# Nothing of these asks the network, or shares a profile with a person's browser.
_QUIET = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--virtual-time-budget=4000""".split()


class Page(HTMLParser):
    """What a browser would see: elements, and what they would load or run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.alts, self.words = [], [], [], []
        self.scripts, self.policy, self.attributes = [], "", set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "meta" and ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"]
        if tag == "script":
            self.scripts.append("")
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("src", "srcset", "href", "action", "data", "poster"):
                self.loads.append(value)
            if tag == "img" and name == "alt":
                self.alts.append(value)

    def handle_data(self, data):
        # The parser hands over what stands in a script, or a style, in one piece.
        if self.tags and self.lasttag == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    def runs_nothing_of_others(self):
        """Whether it has the one script that its policy names, and no handlers."""
        if len(self.scripts) != 1 or any(a.startswith("on") for a in self.attributes):
            return False
        allowed = re.findall(r"script-src ([^;]*)", self.policy)
        return allowed == [f"'sha256-{_hash(self.scripts[0])}'"]


def in_chromium(page, folder, driver=""):
    """The page's HTML after it was opened, and a driver ran in it.

    Args:
      page: text.
      folder: for the copy of the page and the browser's profile.
      driver: a script of the test's own, which this copy's policy allows.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed")
    if driver:
        page = page.replace("script-src ", f"script-src 'sha256-{_hash(driver)}' ")
        page = page.replace("</body>", f"<script>{driver}</script></body>")
    copy = folder / "page.html"
    copy.write_text(page, "utf-8", newline="")
    words = [*_QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [browser, *words, copy.as_uri()], capture_output=True, timeout=90, check=True
    )
    return done.stdout.decode()


def _hash(script):
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

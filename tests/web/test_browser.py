"""The pages in a real browser."""

from __future__ import annotations

import functools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from tests.web.examples import served

pytestmark = pytest.mark.browser


def test_a_reader(run: Path, browser: Any) -> None:
    """Every rating by a click, at the width of a phone, without an error in the console or a scroll bar."""
    with served(run) as (_, explorer, readers):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(readers)
        page.fill("input[name=reader]", "r1")
        page.click("button")
        for judged in range(10):
            page.wait_for_selector(f"text=Image {judged + 1} of 10")
            page.wait_for_load_state("load")
            assert page.evaluate("document.querySelector('.case').naturalWidth") > 0
            page.wait_for_timeout(600)  # to look at it
            page.locator("button[name=rating]").nth(4).click()
        page.wait_for_selector("text=Thank you")
        page.context.clear_cookies()
        page.goto(explorer)
        page.goto(explorer.partition("?")[0] + "results")
        page.wait_for_load_state("networkidle")
        last = page.locator("tr", has_text="r1").locator("td").last
        title = last.evaluate("cell => getComputedStyle(cell, '::before').content")
        assert "Real called synthetic" in title, "the heads of columns are not to be seen there"
        ends = page.evaluate("[...document.querySelectorAll('td')].map(one => one.getBoundingClientRect().right)")
        assert max(ends) <= 390
        page.goto(explorer)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert complaints == []


def test_links_on_other_sites_open_the_pages(run: Path, browser: Any) -> None:
    """Readers get theirs in a mail, which they read in the browser."""
    with served(run) as (_, *addresses):
        class Mail(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write("".join(f'<p><a href="{one}">link</a></p>' for one in addresses).encode())

            log_message = functools.partialmethod(lambda self, *_: None)

        with ThreadingHTTPServer(("localhost", 0), Mail) as mail:
            threading.Thread(target=mail.serve_forever, daemon=True).start()
            for k, heading in enumerate(("run", "Real or synthetic?")):
                page = browser.new_context().new_page()
                page.goto(f"http://localhost:{mail.server_port}/")  # another site than 127.0.0.1
                page.locator("a").nth(k).click()
                page.wait_for_load_state("load")
                assert page.inner_text("h1") == heading
            mail.shutdown()


def test_a_double_click_judges_one_image(run: Path, browser: Any) -> None:
    """The second click of a slow one meets the next image, which nobody has looked at."""
    with served(run) as (_, _, readers):
        page = browser.new_page()
        page.goto(readers)
        page.fill("input[name=reader]", "r1")
        page.click("button")
        page.wait_for_selector("text=Image 1 of 10")
        page.wait_for_timeout(600)
        place = page.locator("button[name=rating]").nth(1).bounding_box()
        page.mouse.click(place["x"] + 9, place["y"] + 9)
        page.wait_for_selector("text=Image 2 of 10")
        page.mouse.click(place["x"] + 9, place["y"] + 9)
        page.wait_for_timeout(700)
        assert "Image 2 of 10" in page.inner_text("main")
        page.mouse.click(place["x"] + 9, place["y"] + 9)
        page.wait_for_selector("text=Image 3 of 10")


def test_long_names_fit_a_phone(run: Path, browser: Any) -> None:
    """Of classes and of runs; what looks like HTML in them is text."""
    long = "<b>a class</b> whose name is as long as exports of hospital systems have them, and-has-no-gap" + 40 * "_x"
    (run / "spec.json").write_text((run / "spec.json").read_text().replace('"rare"', json.dumps(long)))
    with served(run.rename(run.with_name("<i>run" + 60 * "_x"))) as (_, explorer, _):
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.goto(explorer)
        assert long in page.inner_text("main") and page.locator("b, i").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.locator(".sheet a", has_text="a class").first.click()
        page.wait_for_selector("text=Save the picture")
        page.wait_for_load_state()  # the style sheet comes after the words
        assert page.evaluate("document.documentElement.scrollWidth") <= 400

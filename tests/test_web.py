"""The pages: guards, explorer, reader study from the first page to the table, and what must never be told."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.errors import DataError, FolderError
from radsynth.settings import resolve
from radsynth.verbs.train import train

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from PIL import Image as Picture
from starlette.testclient import TestClient

from radsynth.verbs._sampler import Sampler
from radsynth.verbs.generate import draw, sample
from radsynth.web import explorer
from radsynth.web import serve as serve_module
from radsynth.web.app import make_app
from radsynth.web.explorer import Explorer
from radsynth.web.serve import LOOPBACK
from radsynth.web.study import Settings, Study, make_study
from tests.discs import prepared_discs

LABELS = ("common", "rare")
KEYS = ("organiser-key", "reader-key")
ADDRESS = "http://localhost"
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    train(prepared_discs(root, labels=LABELS, name="run/data"), root / "run", settings=resolve(
        overrides=("model.kind=mlp", "train.batch=8", "train.images=32", "train.previews=0")))
    return root / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def client(run: Path, key: str | None = None, study: Study | None = None) -> TestClient:
    app = make_app(Explorer(run), study, "none was made", KEYS, LOOPBACK)
    browser = TestClient(app, base_url=ADDRESS)
    if key:
        assert browser.get(f"/study?key={key}", follow_redirects=False).status_code == 303
    return browser


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(content)))


def test_no_two_images_of_a_study_come_from_one_noise(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of one number look like the same patient twice, which no real image does."""
    drawn, images = list[int](), Sampler.images

    def noted(self: Sampler, first: int, count: int, **how: Any) -> Any:
        drawn.extend(range(first, first + count))
        return images(self, first, count, **how)

    monkeypatch.setattr(Sampler, "images", noted)
    study = make_study(run, Settings(images=10))
    assert len(drawn) == len(set(drawn)) == sum(study.items.values()) == 5


def test_what_is_refused(run: Path) -> None:
    study = make_study(run, Settings(images=10))
    nobody, reader, organiser = client(run, study=study), client(run, KEYS[1], study), client(run, KEYS[0], study)
    assert nobody.get("/").status_code == 403 and nobody.get("/?key=wrong").status_code == 403
    assert nobody.get("/study/image/" + next(iter(study.items)) + ".png").status_code == 403
    for path in ("/", "/results", "/results.csv", "/report", "/image/0.png"):
        assert reader.get(path).status_code == 403, f"{path} would give the answers away"
    assert organiser.get("/results").status_code == 200
    assert organiser.get("/", headers={"host": "evil.example"}).status_code == 421
    foreign = {"origin": "http://evil.example"}
    assert reader.post("/study", data={"reader": "r1"}, headers=foreign).status_code == 403
    assert reader.post("/study", content=b"x" * 20_000).status_code == 413
    assert reader.post("/study", content=iter([b"reader=r1"])).status_code == 413, "of a length that is not told"
    assert reader.post("/study", data={"reader": "<b>me</b>"}).status_code == 400
    assert reader.get("/study/read").status_code == 400, "no code yet"
    assert reader.get("/study/image/..%2f..%2fstudy.json.png").status_code == 404
    for broken in ({"host": "[evil"}, {"origin": "http://[evil"}, {"content-length": "\u00b2".encode("latin-1")}):
        assert reader.post("/study", data={"reader": "r1"}, headers=broken).status_code in (400, 413), broken
    long = 5000 * "9"
    for bad in ("/?seed=-1", "/?seed=1e9", f"/?seed={long}", "/?truncation=nan", "/?label=none", "/?first=x",
                "/one/99999999999", f"/one/{long}", "/walk/0.png?direction=none"):
        assert organiser.get(bad).status_code == 400, bad
    kept = nobody.get(f"/study?key={KEYS[1]}", follow_redirects=False).headers["set-cookie"].lower()
    assert "httponly" in kept and "samesite=strict" in kept, "other sites and scripts cannot use the key"
    page = organiser.get("/?label=<script>alert(1)</script>")
    assert page.status_code == 400 and "<script>" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_explorer_shows_what_generate_writes(run: Path) -> None:
    organiser = client(run, KEYS[0])
    page = organiser.get("/?seed=5&label=rare")
    assert page.status_code == 200 and page.text.count("<img") == 12 and "No reader study: none was made" in page.text
    assert not re.search(r"https?://", page.text), "nothing is loaded from elsewhere"
    shown = pixels(organiser.get("/image/3.png?seed=5&label=rare&side=64").content)
    images, _ = sample(run, 4, seed=5, label="rare")
    plain = np.clip(np.rint((images[3, 0] + 1) * 127.5), 0, 255).astype(np.uint8)
    enlarged = Picture.fromarray(plain).resize((64, 64), Picture.Resampling.LANCZOS)
    assert np.array_equal(shown, np.asarray(enlarged))
    one = organiser.get("/one/3?seed=5&label=rare")
    assert "--count 4 --seed 5" in one.text and "radsynth control" in one.text
    assert organiser.get("/report").status_code == 404
    nowhere = organiser.get("/nowhere")
    assert nowhere.status_code == 404 and "There is no such page" in nowhere.text and "<html" in nowhere.text
    assert organiser.get("/study/images/1").status_code == 404 == organiser.get("/image/1.jpg").status_code


def test_a_run_that_may_only_be_read_is_shown_without_a_study(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(run.rglob("*"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run)  # as root, every folder can be written
    study, why = serve_module._study(run, Settings(images=10), draws=True)
    assert study is None and f"no permission to write in {run}" in why
    assert all(serve_module._keys(run)) and sorted(run.rglob("*")) == before


def test_commands_on_the_pages_can_be_pasted(run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "Kopf MR")
    page = html.unescape(client(moved, KEYS[0]).get("/one/0?label=rare").text)
    assert f"radsynth generate '{moved}' OUT --count 1 --seed 0 --label rare<" in page
    assert f"radsynth control '{moved}'<" in page


def test_a_class_that_was_not_learned_is_not_offered(run: Path) -> None:
    """Held-out patients may have one that no training patient has."""
    spec = json.loads((run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps({**spec, "labels": {"common": 32, "rare": 0}}))
    organiser = client(run, KEYS[0])
    assert "rare" not in organiser.get("/").text and organiser.get("/?label=rare").status_code == 400
    assert len(make_study(run, Settings(images=12)).items) == 12


def test_runs_that_are_served_side_by_side_keep_their_visitors(run: Path) -> None:
    first, second = client(run, KEYS[0]), TestClient(
        make_app(Explorer(run), None, "none was made", ("another-key", "another"), LOOPBACK), base_url=ADDRESS)
    assert second.get("/?key=another-key").status_code == 200
    first.cookies.update(second.cookies)  # one browser, which sends cookies to every port of a machine
    assert first.get("/").status_code == second.get("/").status_code == 200


def test_a_page_full_of_images_is_drawn_once_and_little_is_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, chunks = list[int](), Sampler.drawn

    def slow(self: Sampler, first: int, count: int, **how: Any) -> Any:
        drawn.append(first)
        time.sleep(0.1)
        return chunks(self, first, count, **how)

    monkeypatch.setattr(Sampler, "drawn", slow)
    monkeypatch.setattr(explorer, "KEPT", 2 * 16 * 16 * 16 * 4)  # two chunks
    shown = Explorer(run)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda item: shown.image(item, 0, None, 1.0, 64), range(12)))
    assert drawn == [0]
    for first in (16, 32, 16, 0):
        shown.image(first, 0, None, 1.0, 64)
    assert drawn == [0, 16, 32, 0]


def test_walks_along_directions_that_control_found(run: Path) -> None:
    (run / "control").mkdir()
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(2, Explorer(run).sampler.network.latent))
    np.savez(run / "control" / "directions.npz", names=np.array(["brightness", "common to rare"]),
             kinds=np.array(["attribute", "class"]), vectors=vector / np.linalg.norm(vector, axis=1, keepdims=True),
             steps=np.ones(2))
    organiser = client(run, KEYS[0])
    assert organiser.get("/one/3").text.count('class="strip"') == 2
    strip = pixels(organiser.get("/walk/3.png?direction=brightness").content)
    assert strip.shape[1] > 4 * strip.shape[0]


def test_images_of_masks_are_shown_with_their_masks(tmp_path: Path) -> None:
    data = prepared_discs(tmp_path, name="run/data", mask_classes=3, mask_values=(0, 2))
    images = np.load(data / "shards" / "00000.images.npy")
    np.save(data / "shards" / "00000.masks.npy", np.where(images[:, 0] > 70, 2, 0).astype(np.uint8))
    run = tmp_path / "run"
    train(data, run, settings=resolve(overrides=("task.kind=semantic", "model.width=8", "model.widest=16",
                                                 "model.hidden=8", "train.batch=8", "train.images=16",
                                                 "train.previews=0")))
    organiser = client(run, KEYS[0])
    page = organiser.get("/one/3?seed=5").text
    assert "mask=1" in page and "radsynth control" not in page
    shown, masks = pixels(organiser.get("/image/3.png?seed=5&mask=1&side=64").content), draw(run, 4, seed=5).masks
    assert masks is not None and np.array_equal(shown, np.kron(np.where(masks[3] == 2, 255, 0), np.ones((4, 4))))
    assert sum(make_study(run, Settings(images=10)).items.values()) == 5
    data.rename(tmp_path / "elsewhere")
    assert "makes images from images" in client(run, KEYS[0]).get("/").text, "there are no masks to paint any more"


def test_a_study_tells_nothing_and_loses_nothing(run: Path) -> None:
    study = make_study(run, Settings(images=20, seed=3))
    assert sum(study.items.values()) == 10 and len(study.items) == 20
    files = [study.image(item) for item in study.items]
    assert len({len(file) for file in files}) == 1, "the length would tell"
    assert len({pixels(file).shape for file in files}) == 1
    reader = client(run, KEYS[1], study)
    assert reader.post("/study", data={"reader": "r-1"}).url.path == "/study/read"
    seen = []
    while found := re.search(r'name="item" value="(\w+)"', (page := reader.get("/study/read")).text):
        item = found[1]
        seen.append(item)
        assert not re.search(r"synthetic\b.*[0-9a-f]{16}|index|seed", page.text.replace("definitely synthetic", ""))
        rating = "6" if study.items[item] else "2"
        assert reader.post("/study/read", data={"item": item, "rating": rating}).status_code == 200
        reader.post("/study/read", data={"item": item, "rating": "1"})  # sent again: the first one counts
        if len(seen) == 7:  # another process, the same code: goes on where the reader was
            study = Study(run / "study")
            reader = client(run, KEYS[1], study)
            reader.post("/study", data={"reader": "r-1"})
    assert sorted(seen) == sorted(study.items) and "Thank you" in reader.get("/study/read").text
    assert study.order("r-1") == seen != study.order("r-2")
    assert reader.post("/study/read", data={"item": seen[0], "rating": "9"}).status_code == 400
    found = study.results()
    assert found["readers"][0]["accuracy"]["value"] == 1 and found["accuracy"]["n"] == 20 and found["kappa"] is None
    organiser = client(run, KEYS[0], study)
    assert "100 %" in organiser.get("/results").text
    rows = list(csv.reader(io.StringIO(organiser.get("/results.csv").text)))
    assert rows[0] == ["readerID", "caseID", "modalityID", "score"] and len(rows) == 1 + 20 + 20
    assert {row[3] for row in rows if row[0] == "truth"} == {"0", "1"}


def test_ct_is_shown_in_the_window_that_the_scans_ask_for(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    data = make_prepared(name="run/data", modality="CT", units="HU", window=(100.0, 150.0))
    run = tmp_path / "run"
    train(data, run, settings=resolve(overrides=("model.kind=mlp", "train.batch=8", "train.images=32",
                                                 "train.previews=1")))
    [preview] = (run / "previews").iterdir()
    assert {0, 255} <= set(pixels(preview.read_bytes()).ravel().tolist()), "training is shown likewise"
    study = make_study(run, Settings(images=10))
    organiser, drawn = client(run, KEYS[0], study), sample(run, 1, seed=5)[0][0, 0]
    stored = np.clip((drawn + 1) * 127.5, 0, 255)
    whole, shown = pixels(organiser.get("/image/0.png?seed=5").content), np.clip((stored - 100) * 5.1, 0, 255)
    assert abs(whole.mean() - shown.mean()) < 8, "Lanczos' kernel hardly changes the mean"
    real = [pixels(study.image(item)) for item, synthetic in study.items.items() if not synthetic]
    assert all(image.min() == 0 and image.max() == 255 for image in real)
    assert "from 100 (black) to 150 HU (white)" in client(run, KEYS[1], study).get("/study").text
    assert Study(run / "study").results()["window"] == [100.0, 150.0]


def test_readers_at_the_same_time(run: Path) -> None:
    study = make_study(run, Settings(images=10))

    def judge(name: str) -> None:
        own = Study(run / "study")
        while item := own.next(name)[0]:
            own.answer(name, item, 1 + len(name) % 6)

    threads = [threading.Thread(target=judge, args=(f"reader{k}",)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(json.loads((run / "study" / "results.json").read_text())["readers"]) == 6
    assert len(study.answers()) == 60 and len(study.results()["readers"]) == 6


def test_too_few_held_out_images(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    data = make_prepared(n=12, name="run/data")
    train(data, tmp_path / "run", settings=resolve(overrides=("model.kind=mlp", "train.batch=4", "train.images=8",
                                                              "train.previews=0")))
    with pytest.raises(DataError, match="at least 5 images of held-out patients; there are 4"):
        make_study(tmp_path / "run", Settings())
    (tmp_path / "run" / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(FolderError, match=r"is not there\. Put the prepared folder"):
        make_study(tmp_path / "run", Settings())
    assert not (tmp_path / "run" / "study").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_stopped(how: signal.Signals, run: Path) -> None:
    """For real: a process, its printed addresses, a page, and an end without a traceback."""
    process = subprocess.Popen([sys.executable, "-m", "radsynth", "serve", str(run), "--port", "0", "study.images=10"],
                               stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        address = lines[0].split()[-1]
        assert "?key=" in address and "/study?key=" in lines[1], lines
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert "radsynth explorer" in browser.open(address, timeout=30).read().decode()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.partition("?")[0], timeout=30)
        process.send_signal(how)
        rest = process.stderr.read()
        assert not rest and process.wait(20) == 0, "it has done what it was asked to"
    finally:
        process.kill()
    assert (run / "keys.json").stat().st_mode & 0o077 == 0
    assert json.loads((run / "study" / "study.json").read_text())["items"]


@pytest.mark.browser
def test_a_reader_in_a_real_browser(run: Path) -> None:
    """Every rating by a click, at the width of a phone, without an error in the console or a scroll bar."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("Debian's chromium is not installed")
    process = subprocess.Popen([sys.executable, "-m", "radsynth", "serve", str(run), "--port", "0", "study.images=10"],
                               stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        explorer, readers = (process.stderr.readline().split()[-1] for _ in range(2))
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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
                page.locator("button[name=rating]").nth(4).click()
            page.wait_for_selector("text=Thank you")
            page.context.clear_cookies()
            page.goto(explorer)
            page.wait_for_load_state("networkidle")
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert complaints == []
            browser.close()
    finally:
        process.terminate()
        process.wait(20)

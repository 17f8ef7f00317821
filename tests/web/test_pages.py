"""The pages: guards, the explorer, and commands that can be pasted."""

from __future__ import annotations

import html
import io
import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
from radsynth.web._png import picture
from radsynth.web.app import MOST, make_app
from radsynth.web.explorer import Explorer
from radsynth.web.serve import LOOPBACK
from radsynth.web.study import Settings, make_study
from tests.discs import prepared_discs
from tests.web.conftest import LABELS
from tests.web.examples import ADDRESS, KEYS, client, pixels


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
    assert reader.post("/study", data={"reader": "r1"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
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
    assert "httponly" in kept and "samesite=lax" in kept, "other sites and scripts cannot use the key"
    page = organiser.get("/?label=<script>alert(1)</script>")
    assert page.status_code == 400 and "<script>" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_forms_come_through_a_proxy(run: Path) -> None:
    """It calls this server by another name than the one that the browser sees."""
    reader = client(run, KEYS[1], make_study(run, Settings(images=10)))
    seen = {"origin": "https://study.example", "sec-fetch-site": "same-origin"}
    assert reader.post("/study", data={"reader": "r1"}, headers=seen).url.path == "/study/read"


def test_a_refusal_says_what_to_do_and_leads_back(run: Path) -> None:
    study = make_study(run, Settings(images=10))
    organiser, reader = client(run, KEYS[0], study), client(run, KEYS[1], study)
    assert 'href="/"' in organiser.get("/?seed=x").text and 'href="/"' in organiser.get("/nowhere").text
    page = html.unescape(reader.get("/results").text)
    assert 'href="/study"' in page and "open your own address again" in page
    assert "to the last letter" in client(run).get("/study?key=" + KEYS[1][:-1]).text
    shown = client(run).get(f"//evil.example/?key={KEYS[0]}", follow_redirects=False)
    assert not shown.headers.get("location", "").startswith("//"), "the key's way leads to this server alone"


def test_a_fault_of_ours_is_a_page_too(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    organiser = client(run, KEYS[0])
    monkeypatch.setattr(Explorer, "image", lambda *_, **__: 1 / 0)
    page = organiser.get("/image/0.png")
    assert page.status_code == 500 and "<html" in page.text and "The other pages go on" in page.text
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


def test_from_page_to_page(run: Path) -> None:
    """Who looks at an image of the third page goes back to the third page, or to the next image."""
    organiser = client(run, KEYS[0])
    page = html.unescape(organiser.get("/one/26?seed=5&label=rare").text)
    assert 'href="/?seed=5&label=rare&truncation=1.0&first=24"' in page
    assert all(f'href="/one/{other}?seed=5&label=rare&truncation=1.0"' in page for other in (25, 27))
    assert "Image 1</a>" in organiser.get("/one/0").text and "Image -1" not in organiser.get("/one/0").text
    last = organiser.get(f"/?first={MOST - 1}").text
    assert last.count("<img") == 2 and "Further" not in last and "Before" in last
    assert f"Image {MOST + 1}" not in organiser.get(f"/one/{MOST}").text
    assert organiser.get("/?truncation=&seed=&label=").text.count("<img") == 12, "fields that were emptied"


def test_each_image_is_shown_with_its_class(run: Path) -> None:
    page = html.unescape(client(run, KEYS[0]).get("/?seed=5").text)
    shown = re.findall(r"<span>(\d+): (\w+)</span>", page)
    assert shown == [(str(k), LABELS[label]) for k, label in enumerate(sample(run, 12, seed=5)[1])]


def test_saved_pictures_say_that_they_are_synthetic(run: Path) -> None:
    study = make_study(run, Settings(images=10))
    said = Picture.open(io.BytesIO(client(run, KEYS[0]).get("/image/3.png?seed=5").content)).info
    assert said["Synthetic"] == "yes" and "image 3 of seed 5" in said["Description"]
    visitor, query = client(run, KEYS[0]), "seed=5&label=rare&truncation=0.5"
    shown = visitor.get(f"/image/3.png?{query}")
    said = Picture.open(io.BytesIO(shown.content)).info
    assert "image 3 of seed 5, class rare, truncation 0.5," in said["Description"]
    for name in (shown.headers["Content-Disposition"], visitor.get(f"/one/3?{query}").text):
        assert "synthetic-5-3-rare-truncation0.5.png" in name, "not the name of the same number of another class"
    assert not any(Picture.open(io.BytesIO(study.image(item))).info for item in study.items), "it would tell readers"


def test_weights_that_changed_are_told(run: Path) -> None:
    organiser = client(run, KEYS[0])
    assert "trained further" not in organiser.get("/").text
    facts = json.loads((run / "generator.json").read_text())
    (run / "generator.json").write_text(json.dumps({**facts, "sha256": "0" * 64}))
    assert all("trained further" in organiser.get(path).text for path in ("/", "/one/0"))


def test_what_stands_in_a_picture_is_said(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    data = make_prepared(name="volumes/data", size=(8, 8, 8))
    train(data, tmp_path / "volumes", settings=resolve(overrides=("model.kind=mlp", "train.batch=4", "train.images=8",
                                                                  "train.previews=0")))
    organiser = client(tmp_path / "volumes", KEYS[0])
    assert all("its middle slices across the three axes" in organiser.get(path).text for path in ("/", "/one/0"))
    assert "slices=1" in organiser.get("/one/0").text, "a volume is more than its middle slices"
    shown = organiser.get("/image/3.png?seed=5&slices=1&side=64")
    assert shown.headers["content-disposition"].endswith("synthetic-5-3-slices.png")
    assert pixels(shown.content).shape == (52, 52), "3 by 3 of 8 by 8 pixels with gaps, twice as large"
    explorer = Explorer(tmp_path / "volumes")
    found = pixels(explorer.slices(3, 5, None, 1.0, 26))
    drawn = np.rint((draw(tmp_path / "volumes", 4, seed=5).images[3, 0] + 1) * 127.5)
    for k, place in enumerate(np.ndindex(3, 3)):
        tile = found[9 * place[0]:, 9 * place[1]:][:8, :8]
        assert np.array_equal(tile, drawn[k]) if k < 8 else (tile == 40).all()
    assert explorer.sliced in organiser.get("/one/0").text and explorer.sliced.endswith("from the top left.")
    explorer.sampler.spec = replace(explorer.sampler.spec, channels=("t1", "flair"))
    assert explorer.sliced.endswith("from the top left. Channels stand side by side: t1, flair.")


def test_slices_are_of_volumes_alone(run: Path) -> None:
    organiser = client(run, KEYS[0])
    assert "slices=1" not in organiser.get("/one/0").text
    refused = organiser.get("/image/0.png?slices=1")
    assert refused.status_code == 400 and "have no slices" in refused.text


def test_thick_slices_are_as_high_as_in_the_body() -> None:
    """Volumes whose slices are three pixels apart were pressed to a third of their height; masks have no new values."""
    volume = np.where(np.random.default_rng(0).random((1, 8, 20, 16)) > 0.5, 1, -1).astype(np.float32)
    wide, high = 16 + 16 + 20, 24
    shown, mask = (Picture.open(io.BytesIO(picture(volume, wide, spacing=(3, 1, 1), smooth=smooth)))
                   for smooth in (True, False))
    assert shown.size == mask.size == (wide, high) and {*np.asarray(mask)[2:-2].ravel().tolist()} == {0, 255}


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
    organiser = client(run, KEYS[0])
    assert "radsynth control" in organiser.get("/one/3").text
    (run / "control").mkdir()  # while the page is open
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(2, Explorer(run).sampler.network.latent))
    np.savez(run / "control" / "directions.npz", names=np.array(["brightness", "common to rare"]),
             kinds=np.array(["attribute", "class"]), vectors=vector / np.linalg.norm(vector, axis=1, keepdims=True),
             steps=np.ones(2))
    own, other = (organiser.get(f"/one/3?label={label}").text for label in LABELS)
    assert own.count('class="strip"') == 2
    assert other.count('class="strip"') == 1 and "Image 3 moved along brightness" in other, "it is there already"
    strip = pixels(organiser.get("/walk/3.png?direction=brightness").content)
    assert strip.shape[1] > 4 * strip.shape[0]
    (run / "control" / "directions.npz").write_bytes(b"PK")
    damaged = organiser.get("/one/3")
    assert damaged.status_code == 500 and "directions.npz is damaged: remove it" in damaged.text


def test_images_of_masks_are_shown_with_their_masks(tmp_path: Path) -> None:
    data = prepared_discs(tmp_path, name="run/data", mask_classes=5, mask_values=(0, 2, 4),
                          mask_names=("background", "rim", "core"))
    images = np.load(data / "shards" / "00000.images.npy")
    np.save(data / "shards" / "00000.masks.npy", np.digitize(images[:, 0], (20, 70)).astype(np.uint8) * 2)
    run = tmp_path / "run"
    train(data, run, settings=resolve(overrides=("task.kind=semantic", "model.width=8", "model.widest=16",
                                                 "model.hidden=8", "train.batch=8", "train.images=16",
                                                 "train.previews=0")))
    organiser = client(run, KEYS[0])
    page = organiser.get("/one/3?seed=5").text
    assert "mask=1" in page and "radsynth control" not in page
    sheet = organiser.get("/?seed=5").text
    assert sheet.count("mask=1") == 12 and "Below each image stands its mask." in sheet
    assert all("black; from dark to light: rim, core." in shown for shown in (page, sheet))
    shown, masks = pixels(organiser.get("/image/3.png?seed=5&mask=1&side=64").content), draw(run, 4, seed=5).masks
    assert masks is not None and np.array_equal(shown, np.kron(np.array([0, 128, 255])[masks[3] // 2], np.ones((4, 4))))
    assert sum(make_study(run, Settings(images=10)).items.values()) == 5
    data.rename(tmp_path / "elsewhere")
    page = client(run, KEYS[0]).get("/").text
    assert "makes images from images" in page, "there are no masks to paint any more"
    assert "radsynth report" in page and 'href="/report"' not in page, "there is none"


def test_all_slices_of_a_mask_are_shown_as_those_of_its_volume(tmp_path: Path) -> None:
    data = prepared_discs(tmp_path, name="run/data", size=(8, 8, 8), mask_classes=2)
    images = np.load(data / "shards" / "00000.images.npy")
    np.save(data / "shards" / "00000.masks.npy", (images[:, 0] > 60).astype(np.uint8))
    train(data, tmp_path / "run", settings=resolve(overrides=(
        "task.masks=true", "model.kind=mlp", "train.batch=4", "train.images=8", "train.previews=0")))
    organiser = client(tmp_path / "run", KEYS[0])
    page = organiser.get("/one/0").text
    assert "mask_slices=1" in page and "The same slices of its mask." in page
    shown = organiser.get("/image/3.png?seed=5&mask_slices=1&side=64")
    assert shown.headers["content-disposition"].endswith("synthetic-5-3-mask_slices.png")
    masks = draw(tmp_path / "run", 4, seed=5).masks
    assert masks is not None
    mask, sheet = masks[3], pixels(shown.content)[::2, ::2]  # each pixel twice
    for k, place in enumerate(np.ndindex(3, 3)):
        tile = sheet[9 * place[0]:, 9 * place[1]:][:8, :8]
        assert np.array_equal(tile, 255 * mask[k]) if k < 8 else (tile == 40).all()
    assert mask.any() and not mask.all()

"""The reader study from the first page to the table, and what must never be told."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radsynth.errors import DataError, FolderError
from radsynth.settings import resolve
from radsynth.verbs.train import train

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from radsynth.verbs._sampler import Sampler
from radsynth.verbs.generate import sample
from radsynth.web import study as study_module
from radsynth.web.serve import _study
from radsynth.web.study import Settings, Study, make_study
from tests.web.examples import KEYS, client, pixels
from tests.written import LOSSES


def test_no_two_images_of_a_study_come_from_one_noise(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of one number look like the same patient twice, which no real image does."""
    drawn, images = list[int](), Sampler.images

    def noted(self: Sampler, first: int, count: int, **how: Any) -> Any:
        drawn.extend(range(first, first + count))
        return images(self, first, count, **how)

    monkeypatch.setattr(Sampler, "images", noted)
    study = make_study(run, Settings(images=10))
    assert len(drawn) == len(set(drawn)) == sum(study.items.values()) == 5


def test_making_a_study_says_so_and_how_far_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of volumes it takes minutes, in which nothing was to be seen and no page answered."""
    make_study(run, Settings(images=10))
    assert [line.partition(" in ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "making the reader study, once: 10 images", "drawing: 5 images", "making pictures: 10 images"]
    make_study(run, Settings(images=10))
    assert not capsys.readouterr().err
    make_study(run, Settings(images=10, seed=1))
    assert "of 10 images with study.seed=0, and stays as it is" in " ".join(capsys.readouterr().err.split())


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
            page = reader.post("/study", data={"reader": "R-1 "})  # as a phone writes it
            assert "somebody has judged 7 of the 20 images already" in page.text and "Go on as r-1" in page.text
            assert reader.get("/study/read").status_code == 400, "two readers of one code would be counted as one"
            assert reader.post("/study", data={"reader": "r-1", "again": "1"}).url.path == "/study/read"
    assert sorted(seen) == sorted(study.items) and "Thank you" in reader.get("/study/read").text
    assert study.order("r-1") == seen != study.order("r-2")
    assert "somebody has judged all 20 images already" in reader.post("/study", data={"reader": "r-1"}).text
    assert reader.post("/study/read", data={"item": seen[0], "rating": "9"}).status_code == 400
    found = study.results()
    assert found["readers"][0]["accuracy"]["value"] == 1 and found["accuracy"]["n"] == 20 and found["kappa"] is None
    organiser = client(run, KEYS[0], study)
    assert "100 %" in organiser.get("/results").text
    rows = list(csv.reader(io.StringIO(organiser.get("/results.csv").text)))
    assert rows[0] == ["readerID", "caseID", "modalityID", "score"] and len(rows) == 1 + 20 + 20
    assert {row[3] for row in rows if row[0] == "truth"} == {"0", "1"}


def test_synthetic_images_that_look_more_real_than_real_ones_are_told(run: Path) -> None:
    """Half of all images called rightly, and yet they differ."""
    study = make_study(run, Settings(images=12))
    for reader in ("r1", "r2", "r3"):
        while item := study.next(reader)[0]:
            study.answer(reader, item, 1 if study.items[item] else 3)
    found = study.results()
    assert found["accuracy"]["value"] == 0.5 and found["area"]["value"] == 0
    assert "synthetic images were rated more real than real ones" in found["words"]
    page = client(run, KEYS[0], study).get("/results").text
    assert "every image was called the same" in page and "Agreement needs two readers" not in page


def test_an_image_that_nobody_looked_at_is_not_judged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double click, or a page of another reader in the same browser."""
    study = make_study(run, Settings(images=10))
    item, _ = study.next("r1")
    assert item
    study.answer("r2", item, 3)
    monkeypatch.setattr(study_module, "SOONEST", 60.0)
    study.answer("r1", item, 3)
    assert study.answers() == [] and study.next("r1") == (item, 0)
    monkeypatch.setattr(study_module, "SOONEST", 0.0)
    study.answer("r1", item, 3)
    assert [row[:3] for row in study.answers()] == [("r1", item, 3)]


@pytest.mark.parametrize("how", LOSSES)
def test_answers_whose_key_was_lost_are_not_taken_away(how: str, run: Path) -> None:
    """Served again without study.json, a new study took the folder's place, and with it the answers."""
    study = make_study(run, Settings(images=10))
    item, _ = study.next("anna")
    assert item
    study.answer("anna", item, 3)
    key = run / "study" / "study.json"
    text = key.read_text()
    LOSSES[how](key)
    with pytest.raises(FolderError, match=r"no study\.json that can be read.*move the folder away, with the readers'"):
        _study(run, Settings(images=10), draws=True)
    key.write_text(text)
    assert len(make_study(run, Settings(images=10)).answers()) == 1


def test_a_server_of_a_former_study_leaves_the_answers_of_the_new_one_alone(run: Path) -> None:
    """Answers to images that it does not have kept the new study from being counted, and from being served."""
    former = make_study(run, Settings(images=10))
    reader = client(run, KEYS[1], former)
    reader.post("/study", data={"reader": "r1"})
    item, _ = former.next("r1")
    (run / "study").rename(run / "study-1")
    study = make_study(run, Settings(images=10))
    page = reader.post("/study/read", data={"item": item, "rating": "1"})
    assert page.status_code == 500 and "holds another study than when this server was started" in page.text
    finish(study, "r1")
    assert len(make_study(run, Settings(images=10)).answers()) == 10 and readers_told(run) == ["r1"]


def test_answers_that_cannot_be_kept(run: Path) -> None:
    """The reader is told, and the organiser finds no traceback."""
    study = make_study(run, Settings(images=10))
    reader, organiser = client(run, KEYS[1], study), client(run, KEYS[0], study)
    reader.post("/study", data={"reader": "r1"})
    item, _ = study.next("r1")
    gone = run.rename(run.with_name("elsewhere"))
    for page in (reader.post("/study/read", data={"item": item, "rating": "1"}), reader.get("/study/read"),
                 organiser.get("/results"), organiser.get("/results.csv")):
        assert page.status_code == 500 and "answers.sqlite cannot be read or written: unable to open" in page.text
    assert "has lost an image of its study" in reader.get(f"/study/image/{item}.png").text
    (gone / "study" / "answers.sqlite").write_text("no database")
    with pytest.raises(FolderError, match="file is not a database"):
        Study(gone / "study")


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
    assert all("from 100 (black) to 150 HU (white)" in organiser.get(path).text for path in ("/", "/one/0"))
    assert Study(run / "study").results()["window"] == [100.0, 150.0]


def test_three_contrasts_stand_side_by_side(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    """As red, green and blue nobody could read them, neither readers nor who looks at the explorer."""
    data = make_prepared(name="run/data", channels=("t1", "t2", "flair"))
    run = tmp_path / "run"
    train(data, run, settings=resolve(overrides=("model.kind=mlp", "train.batch=8", "train.images=32",
                                                 "train.previews=1")))
    study = make_study(run, Settings(images=10))
    organiser = client(run, KEYS[0], study)
    shown = [organiser.get("/image/0.png").content, *(study.image(item) for item in study.items)]
    for picture in map(pixels, shown):
        assert picture.ndim == 2 and picture.shape[1] == 3 * picture.shape[0]
    [preview] = (run / "previews").iterdir()
    assert pixels(preview.read_bytes()).ndim == 2, "training is shown likewise"
    for page in (organiser.get("/"), organiser.get("/one/0"), client(run, KEYS[1], study).get("/study")):
        assert "Channels stand side by side: t1, t2, flair." in page.text


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


def finish(study: Study, reader: str) -> None:
    while item := study.next(reader)[0]:
        study.answer(reader, item, 3)


def readers_told(run: Path) -> list[str]:
    """The readers of whom the report knows."""
    return [one["reader"] for one in json.loads((run / "study" / "results.json").read_text())["readers"]]


def test_numbers_of_two_who_finish_at_once_are_of_both(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, results = make_study(run, Settings(images=10)), Study.results
    counted, other_done = threading.Event(), threading.Event()

    def slow_for_the_first(self: Study) -> dict[str, Any]:
        found = results(self)
        if not counted.is_set():
            counted.set()
            other_done.wait(2)
        return found

    monkeypatch.setattr(Study, "results", slow_for_the_first)
    first = threading.Thread(target=finish, args=(study, "r1"))
    first.start()
    assert counted.wait(60)
    finish(study, "r2")
    other_done.set()
    first.join(60)
    assert readers_told(run) == ["r1", "r2"]


def test_a_reader_who_finished_when_the_server_was_killed_is_in_the_report(run: Path, monkeypatch: pytest.MonkeyPatch,
                                                                         ) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt  # the answer is on disk, and its numbers are not

    study = make_study(run, Settings(images=10))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(study_module, "write_atomically", killed)
        finish(study, "r1")
    assert not (run / "study" / "results.json").exists()
    make_study(run, Settings(images=10))
    assert readers_told(run) == ["r1"]


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

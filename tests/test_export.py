"""The exported bundle: the graph computes what PyTorch computes, and its scripts make the very images of `generate`."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from radsynth.errors import FolderError, SettingsError
from radsynth.models._blocks import _widening
from radsynth.settings import resolve
from radsynth.verbs._export_graphs import graph_of
from radsynth.verbs._numbers import Numbers, _drawn
from radsynth.verbs._sampler import Sampler
from radsynth.verbs.export import BUNDLE, TOLERANCE, _difference, export
from radsynth.verbs.generate import generate, sample
from radsynth.verbs.prepare import prepare
from radsynth.verbs.train import train
from tests.tables import lines, save
from tests.written import writings

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

Trained = Callable[..., Path]
LABELS = ("common", "rare")
SMALL = ("train.batch=8", "train.images=32", "train.previews=0")


def computed(bundle: Path, **given: np.ndarray) -> np.ndarray:
    """The first thing that ONNX Runtime makes of the arrays."""
    session = onnxruntime.InferenceSession(str(bundle / "generator.onnx"), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, given)[0])


@pytest.fixture
def trained(make_prepared: Callable[..., Path], tmp_path: Path) -> Trained:
    def make(*overrides: str, **data: object) -> Path:
        train(make_prepared(**data), tmp_path / "run", settings=resolve(overrides=(*SMALL, *overrides)))
        return tmp_path / "run"

    return make


def test_a_bundle_makes_the_same_images_without_radsynth(trained: Trained, tmp_path: Path) -> None:
    labels = ("untaught", *LABELS)  # every third image is held out, and so all of the first class
    run, bundle = trained("model.kind=sngan", "model.width=8", labels=labels), tmp_path / "bundle"
    _widening.cache_clear()  # as in a process of its own, where nothing was computed before the graph is traced
    document = export(run, bundle)
    assert document["check"]["largest_difference"] < 1e-4
    for file in bundle.iterdir():
        assert str(BUNDLE.parents[1]).encode() not in file.read_bytes(), "nor the name of whoever made it"
    assert document["inputs"]["latent"]["shape"] == ["n", 128] and document["labels"] == list(labels)
    assert document["learned"] == list(LABELS), "what the generator can make"
    done = subprocess.run([sys.executable, "-I", "sample.py", "--count", "20", "--seed", "3", "--out", "a/made.npz"],
                          cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected, drawn = sample(run, 20, seed=3)
    with np.load(bundle / "a" / "made.npz", allow_pickle=False) as made:
        assert np.array_equal(made["labels"], drawn)
        assert np.abs(made["images"] - (np.clip(expected, -1, 1) + 1) * 127.5).max() < 0.05
        assert json.loads(str(made["synthetic"]))["synthetic"] is True
    assert "20 synthetic images were written to a/made.npz: the array 'images' (20 x 1 x 16 x 16) holds grey" in (
        done.stdout) and "from 0 to 255" in done.stdout
    done = subprocess.run([sys.executable, "-I", "sample.py", "--label", "untaught"], cwd=bundle, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2 and f"--label untaught: there are {', '.join(LABELS)}" in done.stderr
    told = {path.name: path.read_bytes() for path in bundle.glob("*.md")}
    generate(bundle, tmp_path / "more", count=3, seed=3)  # a bundle is a run folder
    assert {path.name: path.read_bytes() for path in bundle.glob("*.md")} == told, "what each file is"
    before = writings(bundle)
    assert export(run, bundle) == json.loads(json.dumps(document)) and writings(bundle) == before, "the same again"
    (bundle / "generator.onnx").write_bytes(b"")
    with pytest.raises(FolderError, match="holds something else"):
        export(run, bundle)


def keras(bundle: Path, code: str) -> None:
    """Run a program of Keras on PyTorch inside a bundle."""
    if find_spec("keras") is None:
        pytest.skip("keras is not installed")
    variables = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(bundle), "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle, capture_output=True, text=True, env=variables,
                          check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_bundle_feeds_keras(trained: Trained, tmp_path: Path) -> None:
    export(trained("model.kind=mlp", labels=LABELS), tmp_path / "bundle")
    keras(tmp_path / "bundle", ("import keras, keras_data as k; d = k.SyntheticImages(batch=4, batches=2); "
            "a, b = d[0], d[1]; assert a[0].shape == (4, 16, 16, 1) and 0 <= a[0].min() <= a[0].max() <= 1; "
            "assert (a[0] != b[0]).any(); d.on_epoch_end(); assert (d[0][0] != a[0]).any(); "
            "m = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2, activation='softmax')]); "
            "m.compile('adam', 'sparse_categorical_crossentropy'); h = m.fit(d, epochs=2, verbose=0); "
            "assert h.history['loss'][0] > 0"))


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [
    ("model.kind=dcgan", "model.width=8"), ("model.kind=r3gan", "task.loss=relativistic"), ("model.kind=progressive",),
    ("model.kind=style",), ("task.kind=autoencode", "model.kind=vae"),
])
def test_every_network_of_noise(overrides: tuple[str, ...], trained: Trained, tmp_path: Path) -> None:
    assert export(trained(*overrides), tmp_path / "bundle")["check"]["largest_difference"] < 1e-4


@pytest.mark.slow
def test_volumes(trained: Trained, tmp_path: Path) -> None:
    document = export(trained("model.width=8", size=(8, 16, 16)), tmp_path / "bundle")
    assert document["outputs"]["images"]["shape"] == ["n", 1, 8, 16, 16]


def test_each_channel_has_its_own_range(trained: Trained, tmp_path: Path) -> None:
    run, bundle = trained("model.width=8", channels=("ct", "pet")), tmp_path / "bundle"
    spec = json.loads((run / "spec.json").read_text())
    spec["intensity"] |= {"ranges": [[-1000.0, 80.0], [0.0, 9.0]]}
    (run / "spec.json").write_text(json.dumps(spec))
    export(run, bundle)
    generate(run, tmp_path / "made", count=3, format="npz")
    subprocess.run([sys.executable, bundle / "sample.py", "--count", "3", "--out", tmp_path / "s.npz"], check=True)
    images = np.load(tmp_path / "s.npz")["images"]
    assert images[:, 0].min() < 0 <= images[:, 1].min() and images[:, 1].max() <= 9
    expected = np.load(tmp_path / "made" / "synthetic.npz")["train_images"]
    np.testing.assert_allclose(np.moveaxis(images, 1, -1), expected, atol=1)  # whole numbers are written


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [
    ("task.kind=restore",), ("task.kind=translate", "task.inputs=[a]", "task.outputs=[b]"),
])
def test_networks_that_take_images(overrides: tuple[str, ...], trained: Trained, tmp_path: Path) -> None:
    channels = ("a", "b") if "task.inputs=[a]" in overrides else ("grey",)
    document = export(trained(*overrides, channels=channels), tmp_path / "bundle")
    assert document["kind"] == "image" and document["check"]["largest_difference"] < 1e-3
    assert not (tmp_path / "bundle" / "sample.py").exists()


def test_results_of_images_lie_in_the_range_that_is_told(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unpaired translation they went to -1.35, which is -44 where the lowest value of images is 0."""
    graph = graph_of(Sampler(trained("task.kind=restore")))
    monkeypatch.setattr(graph.task, "convert", lambda network, images, target: 2 * images)
    made = graph(torch.tensor([-0.9, -0.25, 0.25, 0.9]).expand(1, 1, 16, 4).repeat(1, 1, 1, 4))
    assert made.min() == -1 and made.max() == 1 and (made.abs() < 1).any()


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [
    ("task.masks=true", "data.conditions=[position]"), ("task.kind=semantic", "model.width=8"),
    ("task.kind=semantic", "model.width=8", "task.styles=principal", "prepare.size=[50, 38]"), ("task.kind=segment",),
])
def test_masks_and_numbers(overrides: tuple[str, ...], tmp_path: Path) -> None:
    settings = resolve(overrides=("data.kind=brain", "data.patients=12", "data.slices=4", "data.size=[32, 32]",
                                  "prepare.size=[32, 32]", *SMALL, *overrides))
    prepare(settings.section("data"), tmp_path / "run" / "data", settings=settings)
    train(tmp_path / "run" / "data", tmp_path / "run", settings=settings)
    document = export(tmp_path / "run", tmp_path / "bundle")
    assert document["check"]["largest_difference"] < 1e-3
    assert document["mask_values"] == [0, 1, 2, 3, 4]
    assert document["intensity"]["percentiles"] == (0.5, 99.5), "each image has a range of its own"
    if "task.kind=segment" in overrides:
        made = computed(tmp_path / "bundle", images=np.zeros((2, 1, 32, 32), np.float32))
        assert document["outputs"]["results"]["units"] == "label values" and made.dtype.kind == "i"
        assert set(np.unique(made)) <= {0, 1, 2, 3, 4}
    if "task.masks=true" in overrides:
        assert document["inputs"]["numbers"]["shape"] == ["n", 1] and set(document["outputs"]) == {"images", "masks"}
        done = subprocess.run([sys.executable, "-I", "sample.py", "--count", "5", "--out", "made.npz"],
                              cwd=tmp_path / "bundle", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        drawn = next(Sampler(tmp_path / "run").drawn(0, 5, seed=0))
        with np.load(tmp_path / "bundle" / "made.npz", allow_pickle=False) as made:
            assert (made["masks"] == drawn.masks).mean() > 0.99
        (low, *_, high), = document["numbers"].values()
        for value, code in ((high, 0), (high + 1, 2)):
            done = subprocess.run([sys.executable, "-I", "sample.py", "--count", "5", "--at", f"position={value}",
                                   "--out", "asked.npz"], cwd=tmp_path / "bundle", capture_output=True, text=True,
                                  check=False)
            assert done.returncode == code, done.stderr
        assert f"training images had {low:g} to {high:g}" in done.stderr
        drawn = next(Sampler(tmp_path / "run", at={"position": high}).drawn(0, 5, seed=0))
        with np.load(tmp_path / "bundle" / "asked.npz", allow_pickle=False) as made:
            assert (made["numbers"] == np.float32(high)).all() and (made["masks"] == drawn.masks).mean() > 0.99
        keras(tmp_path / "bundle", f"""
import numpy as np, threading
from concurrent.futures import ThreadPoolExecutor
from keras_data import SyntheticImages
images, labels = SyntheticImages(batch=5)[0]
assert (labels == np.load("made.npz")["labels"]).all(), "classes, where there are some"
data = SyntheticImages(batch=5, batches=1, target="mask")
images, masks = data[0]
assert masks.shape == images.shape[:-1] == (5, 32, 32) and (masks == np.load("made.npz")["masks"]).all()
several = SyntheticImages(batch=5, batches=2, target="mask")
alone, drawn, both = [several[0], several[1]], several.generator.images, threading.Barrier(2, timeout=60)
several.generator.images = lambda *asked: (drawn(*asked), both.wait())[0]
with ThreadPoolExecutor(2) as pool:
    together = list(pool.map(several.__getitem__, range(2)))
assert (alone[0][1] != alone[1][1]).any()
assert all((one[1] == two[1]).all() for one, two in zip(alone, together)), "workers mix up masks"
data.generator.about["mask_values"] = [-5, 0, 1, 2, 3, 4]
assert (data[0][1] == masks + 1).all(), "places, not values"
at, numbers = SyntheticImages(batch=5, target="position", at={{"position": {high}}})[0]
assert numbers.shape == (5,) and (numbers == np.float32({high})).all() and (at != images).any()
for refused, told in (({{"target": "age"}}, "label, mask, position"), ({{"label": "nonesuch"}}, "there are "),
                      ({{"at": {{"age": 3}}}}, "numbers are position"), ({{"at": {{"position": {high + 1}}}}}, "had ")):
    try:
        SyntheticImages(**refused)
    except ValueError as error:
        assert told in str(error)
    else:
        raise AssertionError(refused)
""")


@pytest.mark.slow
def test_a_bundle_goes_to_the_domain_that_is_asked_for(trained: Trained, tmp_path: Path) -> None:
    run, given = trained("task.kind=cycle", labels=("ct", "mr")), np.full((1, 1, 16, 16), 0.3, np.float32)
    network, task = Sampler(run).network, Sampler(run).task
    for target, asked in (("mr", None), ("ct", "ct")):  # the second class by default, as apply has it
        document = export(run, tmp_path / target, target=asked)
        assert document["target"] == target
        expected = task.convert(network, torch.from_numpy(given), target).clamp(-1, 1).detach().numpy()
        assert np.abs(computed(tmp_path / target, images=given) - expected).max() < 1e-3
    with pytest.raises(SettingsError, match="it can go to mr, ct"):
        export(run, tmp_path / "none", target="pet")
    assert not (tmp_path / "none").exists()


def test_a_target_is_refused_where_noise_is_all_that_goes_in(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not exported for one target"):
        export(trained("model.width=8", labels=LABELS), tmp_path / "bundle", target="common")


def test_labels_that_the_last_digit_decides_are_no_difference() -> None:
    masks = np.zeros((8, 40, 40), np.int64)
    other = masks.copy()
    other[3, 5, 7] = 2
    assert _difference(masks, other, 1.0) < TOLERANCE < _difference(masks, 2 - masks, 1.0)
    assert _difference(masks[:1], other[3:4], 1.0) < TOLERANCE
    images = np.zeros((8, 40, 40), np.float32)
    assert _difference(images, other.astype(np.float32), 255.0) > TOLERANCE


@pytest.mark.slow
def test_networks_that_are_told_numbers(make_prepared: Callable[..., Path], tmp_path: Path) -> None:
    data = make_prepared(conditions=("dose",))
    table = data / "records.csv"
    save(table, [{**line, "conditions": str(number)} for number, line in enumerate(lines(table))])
    manifest = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps({**manifest, "conditions": {"dose": [0.0, 47.0]}}))
    for name, more in (("growing", ("model.kind=progressive",)), ("noise", ("model.kind=style", "model.noise=true"))):
        train(data, tmp_path / name, settings=resolve(overrides=(*SMALL, "model.width=4", *more)))
    assert export(tmp_path / "growing", tmp_path / "bundle")["check"]["largest_difference"] < 1e-3
    with pytest.raises(SettingsError, match=r"model\.noise=false"):
        export(tmp_path / "noise", tmp_path / "none")


def test_noise_that_the_network_draws_is_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.noise=false"):
        export(trained("model.kind=style", "model.noise=true", "model.width=8"), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("line", [[0.0, 0.0, 0.4, 1.0, 1.0], [0.0, 1.0], [0.0, 0.5, 0.6, 1.0], [20.0, 50.0, 90.0]])
def test_numbers_are_drawn_in_the_bundle_as_by_radsynth(line: list[float]) -> None:
    """Findings are there or not, never by half."""
    shares = np.linspace(0, 0.999, 50, dtype=np.float32)
    assert np.array_equal(runpy.run_path(str(BUNDLE / "sample.py"))["_drawn"](shares, line), _drawn(shares, line))


def test_numbers_can_be_asked_for_in_the_bundle_as_of_radsynth() -> None:
    learned = {"age": [20.0, 50.0, 90.0], "dose": [0.0, 3.0, 4.0]}
    script = runpy.run_path(str(BUNDLE / "sample.py"))
    generator = object.__new__(script["Generator"])
    generator.about = {"numbers": learned}
    for words in ([], ["age=63"], ["dose = 4", "age=20"]):
        at = script["_asked"](words, learned)
        expected = Numbers(learned, at).of(range(9), seed=3)
        assert np.array_equal(generator.numbers(3, range(9), at), expected.astype(np.float32))
    for word, said in (("weight=3", "the numbers are age, dose"), ("age", "such as --at age=20"),
                       ("age=nan", "training images had 20 to 90"), ("age=91", "training images had 20 to 90")):
        with pytest.raises(ValueError, match=f"--at {word}: .*{said}"):
            script["_asked"]([word], learned)
    with pytest.raises(ValueError, match="the numbers are none"):
        script["_asked"](["age=3"], {})

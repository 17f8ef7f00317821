"""The command line: parses, calls the verb's Python function, prints. Heavy modules are imported by the command alone.

Results go to stdout (tables, or JSON with --json), progress and errors to stderr.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from radsynth._summaries import in_one_minute, numbers, ranked, rejected
from radsynth.errors import RadsynthError, SettingsError

if TYPE_CHECKING:
    from radsynth.settings import Resolved

app = typer.Typer(
    name="radsynth",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around the help would double the time that it takes
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _path(name: str, meaning: str) -> Any:
    return typer.Argument(metavar=name, help=meaning, show_default=False)


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings; 'radsynth show settings' lists them."),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", metavar="FILE", help="YAML file of settings.")]
Preset = Annotated[str | None, typer.Option("--preset", metavar="NAME", help="Settings that ship with radsynth.")]
Privacy = Annotated[
    str | None, typer.Option("--privacy", metavar="dp", help="dp: differential privacy for one patient (epsilon 10).")
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Everything random follows from it. [default: 0]")
]
Budget = Annotated[str | None, typer.Option("--budget", metavar="BUDGET", help="Training: 30s, 5min, 2h or 100000img.")]
Cluster = Annotated[
    str, typer.Option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster: tcp://host:port of its scheduler.")
]
Authority = Annotated[
    str, typer.Option("--ca", metavar="FILE", help="PEM file of authorities to trust. [default: the system's]")
]
Certificate = Annotated[
    str, typer.Option("--certificate", metavar="FILE", help="PEM file of our own certificate and key, where asked for.")
]
Strict = Annotated[bool, typer.Option("--strict", help="End with code 2 if any file has to be rejected.")]
OutFile = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for what is written.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Learn from a folder of medical images and make synthetic ones, with a report of how good and how safe they are.

    The main job: radsynth run DATA
    """
    if version:
        import radsynth

        print(f"radsynth {radsynth.__version__}")
        raise typer.Exit


@app.command()
def inspect(
    data: Annotated[str, _path("DATA", "A folder of images, a file that holds many, or brain (embedded).")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    out: OutFile = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Say what is in DATA, what is wrong with it, what would be done."""
    (data,), overrides = split_words([data, *(overrides or [])], "DATA")
    settings = _resolve(["data"], overrides, settings_file, preset, data=Path(data))
    from radsynth.verbs.inspect import inspect as verb

    found = verb(Path(data), settings=settings, out=out)
    _print(found, as_json)
    if strict and found.rejected:
        raise typer.Exit(2)


@app.command()
def prepare(
    data: Annotated[str, _path("DATA", "A folder of images, or brain (embedded).")],
    out: Annotated[str, _path("OUT", "The folder of arrays to write.")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    cluster: Cluster = "",
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Make fixed-size arrays with a manifest. The same command again goes on where it stopped."""
    (data, out), overrides = split_words([data, out, *(overrides or [])], "DATA", "OUT")
    overrides += ["prepare.strict=true"] if strict else []
    settings = _resolve(["data", "prepare"], overrides, settings_file, preset, data=Path(data))
    from radsynth.verbs.prepare import prepare as verb

    made = verb(settings.section("data"), Path(out), settings=settings, cluster=cluster)
    _print({"folder": made.folder, **made.manifest.to_json()}, as_json)
    if not as_json and (text := rejected(made.folder)):
        _print(text, as_json)


@app.command()
def train(
    prepared: Annotated[str, _path("PREPARED", "A prepared folder.")],
    run: Annotated[str, _path("RUN", "The run folder to write.")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    privacy: Privacy = None,
    budget: Budget = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Train on prepared data. The same command again resumes."""
    (prepared, run), overrides = split_words([prepared, run, *(overrides or [])], "PREPARED", "RUN")
    sections = ["task", "model", "augment", "train"]
    settings = _resolve(sections, overrides, settings_file, preset, budget=budget, seed=seed, with_recipe=True,
                        privacy=privacy)
    from radsynth.verbs.train import train as verb

    folder = verb(Path(prepared), Path(run), settings=settings)
    _print({"run": folder.path, **folder.load_weights()[1]}, as_json)


@app.command()
def generate(
    run: Annotated[Path, _path("RUN", "A run folder.")],
    out: Annotated[Path, _path("OUT", "The folder of images to write.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many images.")] = 100,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT",
            help="dicom, nifti, metaimage, png, tiff, picture (either) or npz. [default: the input's]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only this class. [default: classes as in the data]")
    ] = None,
    truncation: Annotated[
        float, typer.Option(metavar="T", min=0, max=1, help="Below 1: more typical, less varied images.")
    ] = 1.0,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A number that the images are to have, for runs with data.conditions."),
    ] = None,
    copy_filter: Annotated[
        bool, typer.Option("--copy-filter", help="Draw copies of training images again; needs RUN/data.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For runs that paint masks: where training masks are. [default: RUN/data]"),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="RUN", help="For runs that paint masks: a run that draws them (task.masks).")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Make synthetic images. Image k depends on the seed and k alone."""
    from radsynth.verbs.generate import generate as verb

    result = verb(
        run, out, count=count, format=file_format, label=label, truncation=truncation, seed=0 if seed is None else seed,
        copy_filter=copy_filter, data=data, at=_numbers_given(at or []), masks=masks
    )
    _print(result, as_json)


def _numbers_given(words: list[str]) -> dict[str, float]:
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise SettingsError(f"--at {word}: give a name and a number, such as --at age=63.") from None
    return found


@app.command()
def apply(
    run: Annotated[Path, _path("RUN", "A run folder of a task that takes images.")],
    images: Annotated[Path, _path("INPUT", "Images: a folder, a file or an archive.")],
    out: Annotated[Path, _path("OUT", "The folder of images to write.")],
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="As in generate. [default: each image's own]")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="DOMAIN", help="The domain to go to, for unpaired translation.")
    ] = None,
    onto: Annotated[
        Path | None, typer.Option(metavar="FIXED", help="For registration: the image that INPUT is put onto.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="For registration: INPUT's label file, or a folder of them, to warp too."),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring other spacing to the training's, and results back.")
    ] = False,
    style: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="For images of masks: an image that lends its style.")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Apply a trained run to images or masks: translate, restore, segment, register, paint masks."""
    from radsynth.verbs.apply import apply as verb

    _print(verb(run, images, out, format=file_format, target=target, onto=onto, labels=labels, resample=resample,
                style=style, seed=0 if seed is None else seed), as_json)


@app.command()
def evaluate(
    real: Annotated[str, _path("REAL", "Real images: a folder or a prepared folder.")],
    synthetic: Annotated[str, _path("SYNTHETIC", "Synthetic images or a run folder; several are ranked.")],
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    seed: Seed = None,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Measure synthetic images against real ones: fidelity, variety, nearness to training images.

    Several sets (REAL A B C) are measured on the same real images and ranked, with intervals of their differences.
    With --out DIR, 'radsynth report DIR' makes a page of either.
    """
    words = [real, synthetic, *(overrides or [])]
    (real, *sets), overrides = split_words(words, "REAL", "SYNTHETIC", "[SYNTHETIC...]")
    given = [] if seed is None else [f"evaluate.seed={seed}"]
    settings = _resolve(["evaluate"], [*given, *overrides], settings_file, preset)
    from radsynth.verbs.evaluate import evaluate as verb

    results = verb(Path(real), *map(Path, sets), settings=settings.section("evaluate"), out=out)
    _print(results if as_json else ranked(results) if "ranking" in results else numbers(results), as_json)


@app.command()
def audit(
    run: Annotated[str, _path("RUN", "A run folder with its prepared data in RUN/data.")],
    overrides: Overrides = None,
    synthetic: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Synthetic images. [default: RUN/synthetic]")
    ] = None,
    settings_file: SettingsFile = None,
    as_json: Json = False,
) -> None:
    """Attack the synthetic images: copies, membership, re-identification. Writes RUN/audit.json."""
    (run,), overrides = split_words([run, *(overrides or [])], "RUN")
    settings = _resolve(["audit"], overrides, settings_file, None)
    from radsynth.verbs.audit import audit as verb

    result = verb(Path(run), synthetic, settings=settings.section("audit"))
    _print(result if as_json else result.table(), as_json)


@app.command()
def utility(
    run: Annotated[str, _path("RUN", "A run folder, or a prepared folder when SYNTHETIC is given.")],
    overrides: Overrides = None,
    synthetic: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Synthetic images with classes or masks. [default: drawn from the run]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The prepared folder of the training. [default: RUN/data]")
    ] = None,
    settings_file: SettingsFile = None,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Measure how useful synthetic images are for training.

    Trains a small classifier or segmenter on real, synthetic, both and augmented images, and tests it on real patients
    that no training saw. Writes RUN/utility.json and RUN/utility.png.
    """
    (run,), overrides = split_words([run, *(overrides or [])], "RUN")
    settings = _resolve(["utility"], overrides, settings_file, None)
    from radsynth.verbs.utility import utility as verb

    found = verb(Path(run), synthetic, data=data, settings=settings.section("utility"), out=out)
    rows = [{"real_share": line["share"], "trained_on": line["arm"], "against": line["against"],
             "difference": line["value"], "low": line["low"], "high": line["high"], "verdict": line["verdict"]}
            for line in found["differences"]]
    table = {"differences": rows, "findings": [{"in_words": text} for text in found["words"]]}
    _print(found if as_json else table, as_json)


@app.command()
def control(
    run: Annotated[Path, _path("RUN", "A run folder of a task that draws images from noise.")],
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="The folder to write. [default: RUN/control]")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Move images of this class. [default: every class in turn]")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Find latent directions and measure what each of them changes.

    Truncation, ways between images, directions in closed form, principal ones, of attributes and of classes: contact
    sheets (PNG), control.json and directions.npz.
    """
    from radsynth.verbs.control import control as verb

    found = verb(run, out, label=label, seed=0 if seed is None else seed)
    _print(found if as_json else {"findings": [{"in_words": text} for text in found["words"]],
                                  "pictures": found["pictures"]}, as_json)


@app.command()
def explain(
    run: Annotated[Path, _path("RUN", "A run folder of a task that draws images from noise.")],
    words: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGE]... [OUT]", help="Real images, then a new folder to write. [default: held-out "
                       "images of the prepared data; RUN/explain]"),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="LABEL", help="The images' class. [default: guessed]")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The prepared folder of the training. [default: RUN/data]")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Explain by single images: redrawing them, counterfactual pairs, where the discriminator looks."""
    from radsynth.verbs.explain import explain as verb
    from radsynth.verbs.explain import is_output

    images, out = list(words or []), None
    if images and is_output(images[-1]):
        out = images.pop()
    found = verb(run, images, out, label=label, data=data, seed=0 if seed is None else seed)
    _print(found if as_json else {"findings": [{"in_words": text} for text in found["words"]],
                                  "pictures": found["pictures"]}, as_json)


@app.command()
def report(
    run: Annotated[Path, _path("RUN", "A run folder, or what 'evaluate --out' wrote.")],
    as_json: Json = False,
) -> None:
    """Write report.html (one self-contained file) and report.json."""
    from radsynth.verbs.report import report as verb

    _print(verb(run), as_json)


@app.command()
def run(
    data: Annotated[
        str | None, _path("DATA", "A folder of images. [default: the embedded virtual brain cohort]")
    ] = None,
    overrides: Overrides = None,
    settings_file: SettingsFile = None,
    preset: Preset = None,
    privacy: Privacy = None,
    budget: Budget = None,
    seed: Seed = None,
    out: OutFile = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """The main job: all steps from images to report.

    Inspects, prepares, trains, generates, evaluates and reports. The same command again goes on where it stopped.
    """
    paths, overrides = split_words([*([data] if data else []), *(overrides or [])], "[DATA]")
    overrides += ["prepare.strict=true"] if strict else []
    from radsynth.verbs.run import run as verb

    result = verb(
        Path(paths[0]) if paths else None,
        out,
        overrides=overrides,
        settings_file=settings_file,
        preset=preset,
        privacy=privacy,
        budget=budget,
        seed=seed,
    )
    if as_json:
        _print(result, as_json)
        return
    _print(numbers(result.results), as_json)
    _print(in_one_minute(result.report), as_json)
    if text := rejected(result.run / "data"):
        _print(text, as_json)
    places = {"run": result.run, "synthetic": result.synthetic, "report": result.report}
    _print({name: place for name, place in places.items() if place}, as_json)


@app.command()
def pull(
    url: Annotated[str, _path("URL", "A DICOMweb service: https://host:port/dicom-web")],
    out: Annotated[Path, _path("OUT", "The folder of DICOM files to write.")],
    study: Annotated[str, typer.Option(metavar="UID", help="Only this study.")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="Only this series.")] = "",
    modality: Annotated[str, typer.Option(metavar="CODE", help="Only this modality: CT, MR, DX, ...")] = "",
    date: Annotated[str, typer.Option(metavar="DATE", help="Only studies of YYYYMMDD or YYYYMMDD-YYYYMMDD.")] = "",
    ca: Authority = "",
    certificate: Certificate = "",
    as_json: Json = False,
) -> None:
    """Pull images from a PACS. The same command again goes on where it stopped.

    The account comes from the environment (RADSYNTH_PACS_USER and RADSYNTH_PACS_PASSWORD, or RADSYNTH_PACS_TOKEN), else
    from the keyring.
    """
    from radsynth.verbs.pull import pull as verb

    result = verb(
        url, out, study=study, series=series, modality=modality, date=date, ca=ca, certificate=certificate
    )
    _print(result, as_json)
    if result.failed:
        raise typer.Exit(5)


@app.command()
def push(
    synthetic: Annotated[Path, _path("SYNTHETIC", "A folder of DICOM that radsynth generated.")],
    target: Annotated[str, _path("TARGET", "https://host:port/dicom-web, or TITLE@host:port for C-STORE.")],
    calling: Annotated[str, typer.Option(metavar="TITLE", help="Our own AE title, for C-STORE.")] = "RADSYNTH",
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt C-STORE; DICOMweb is encrypted by https://.")] = False,
    ca: Authority = "",
    certificate: Certificate = "",
    as_json: Json = False,
) -> None:
    """Push synthetic DICOM to a PACS; what is not marked as synthetic is refused.

    The same command again goes on where it stopped. The account comes from where pull's does.
    """
    from radsynth.verbs.push import push as verb

    result = verb(synthetic, target, calling=calling, tls=tls, ca=ca, certificate=certificate)
    _print(result, as_json)
    if result.failed:
        raise typer.Exit(5)


@app.command()
def export(
    run: Annotated[Path, _path("RUN", "A run folder.")],
    out: Annotated[Path, _path("OUT", "The folder to write.")],
    as_json: Json = False,
) -> None:
    """Bundle a trained network for others: ONNX, weights, scripts for NumPy and Keras."""
    from radsynth.verbs.export import export as verb

    found = verb(run, out)
    _print(found if as_json else {"bundle": out, "read": out / "README.md", "inputs": list(found["inputs"]),
                                  "outputs": list(found["outputs"]), "check": found["check"]}, as_json)


@app.command()
def serve(
    run: Annotated[str, _path("RUN", "A run folder.")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Whom to answer; 0.0.0.0: the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Show a run in the browser: an explorer of its images, and a blinded reader study."""
    (run,), overrides = split_words([run, *(overrides or [])], "RUN")
    settings = _resolve(["study"], overrides, None, None)
    from radsynth.web.serve import serve as verb

    verb(Path(run), host=host, port=port, settings=settings)


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="settings, kinds or a run folder.")] = "settings",
    name: Annotated[str | None, _path("NAME", "A section or kind; a folder of kinds.")] = None,
    as_json: Json = False,
) -> None:
    """Every setting; every kind of data set, network, loss, format, metric and task; the state of a run."""
    from radsynth.verbs.show import show as verb

    _print(verb(what, name), as_json)


def split_words(words: list[str], *names: str) -> tuple[list[str], list[str]]:
    """Paths and overrides among the words after a command. SettingsError for another number of paths.

    "[NAME]" may be missing, and "[NAME...]" may be there any number of times.

    A word with "=" whose left side is a setting's name is an override unless a file of that name exists.
    """
    overrides = [w for w in words if re.match(r"[a-z_]+(\.[\w.]+)?=", w) and not Path(w).exists()]
    paths = [w for w in words if w not in overrides]
    required = [name for name in names if not name.startswith("[")]
    most = len(paths) if names[-1].endswith("...]") else len(names)
    if not len(required) <= len(paths) <= most:
        given = ", ".join(paths) or "none"
        raise SettingsError(
            f"This command takes {' '.join(names)} and then settings as section.key=value; the paths given: {given}."
        )
    return paths, overrides


def _resolve(sections: Sequence[str], *words: Any, **options: Any) -> Resolved:
    from radsynth.verbs._given import given

    return given(sections, *words, **options)


def _print(result: Any, as_json: bool) -> None:
    from radsynth._tables import print_json, print_tables

    (print_json if as_json else print_tables)(result)


def main() -> NoReturn:
    """Run the command line; every error ends in one clear text on stderr and its exit code, never in a traceback."""
    try:
        app()
        code = 0
    except RadsynthError as error:
        code = _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = _fail("Stopped.", 130)
    except OSError as error:
        # What the machine refuses (disk full, no permission) is the user's to put right, and its text is clear.
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}", 3)
    except Exception as error:
        code = _fail_unexpectedly(error)
    sys.exit(code)


def _fail(text: str, code: int) -> int:
    if os.environ.get("RADSYNTH_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    print(f"radsynth: {text}", file=sys.stderr)
    return code


def _fail_unexpectedly(error: Exception) -> int:
    if os.environ.get("RADSYNTH_DEBUG") == "1":
        return _fail(f"unexpected {type(error).__name__}", 1)
    import traceback

    handle, name = tempfile.mkstemp(prefix="radsynth-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    summary = " ".join(str(error).split())[:200]
    return _fail(f"unexpected {type(error).__name__}: {summary} - a fault of radsynth; details are in {name}", 1)

"""Commands from and to a PACS: pull, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radsynth.cli._options import Authority, Certificate, Json, argument
from radsynth.cli._words import show_result


def pull(
    url: Annotated[str, argument("URL", "A DICOMweb service: https://host:port/dicom-web")],
    out: Annotated[Path, argument("OUT", "The folder of DICOM files to write.")],
    study: Annotated[str, typer.Option(metavar="UID", help="Only this study.")] = "",
    series: Annotated[str, typer.Option(metavar="UID", help="Only this series.")] = "",
    modality: Annotated[str, typer.Option(metavar="CODE", help="Only this modality: CT, MR, DX, ... Masks have their "
                                                               "own: SEG, RTSTRUCT.")] = "",
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
    show_result(result, as_json)
    if result.failed:
        raise typer.Exit(5)


def push(
    synthetic: Annotated[Path, argument("SYNTHETIC", "A folder of DICOM that radsynth generated.")],
    target: Annotated[str, argument("TARGET", "https://host:port/dicom-web, or TITLE@host:port for C-STORE.")],
    calling: Annotated[str, typer.Option(metavar="TITLE", help="Our own AE title, for C-STORE.")] = "RADSYNTH",
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt C-STORE; DICOMweb is encrypted by https://.")] = False,
    ca: Authority = "",
    certificate: Certificate = "",
    as_json: Json = False,
) -> None:
    """Push synthetic DICOM to a PACS. What is not marked as synthetic is refused.

    The same command again goes on where it stopped. The account comes from where pull's does.
    """
    from radsynth.verbs.push import push as verb

    result = verb(synthetic, target, calling=calling, tls=tls, ca=ca, certificate=certificate)
    show_result(result, as_json)
    if result.failed:
        raise typer.Exit(5)

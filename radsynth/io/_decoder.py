"""The child that decodes pixels of other people's files: a codec that crashes, hangs or eats memory costs one file.

Every decoder that is neither ours nor Python's own runs here, with limited memory and no right to write. Reads one JSON
request a line from standard input, {"kind", "path", ...}: the name and the arguments of a function of DECODERS. Answers
with the length of a head in HEAD_BYTES bytes (little endian), the head, which is JSON, {"rejected"}, {"error"} or
{"shape", "dtype", "bytes", "facts"}, and then the pixels.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import warnings
from typing import Any

MEMORY = 6 * 2**30
"""Bytes of address space: the largest image (`_limits.MAX_BYTES`), and what its decoder needs."""

HEAD_BYTES = 4

JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
"""pylibjpeg reads them a sixth faster than GDCM, which pydicom asks first."""


def limit_resources() -> None:
    """Address space, no core dumps, no files written. Windows has no such limits."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def dicom(path: str, frame: int | None, syntax: str, stored: int, gdcm: bool) -> Any:
    """One frame (or all) as stored, ([frames,] rows, columns[, 3]); JPEG's own colours are turned into RGB.

    syntax, stored: the file's transfer syntax and Bits Stored, which the caller has read; gdcm: may GDCM be used?
    """
    from pydicom.pixels import get_decoder, pixel_array

    if not gdcm:
        with contextlib.suppress(NotImplementedError, ValueError):
            get_decoder(syntax).remove_plugin("gdcm")
    elif syntax == JPEG_EXTENDED and stored > 8:
        return _jpeg_of_12_bits(path, frame)
    if syntax in JPEG_2000:
        with contextlib.suppress(Exception):  # what it declines another decoder may read
            return pixel_array(path, index=frame, decoding_plugin="pylibjpeg")
    return pixel_array(path, index=frame)


def _jpeg_of_12_bits(path: str, frame: int | None) -> Any:
    """By GDCM's own reader: pydicom's plug-in declines it, GDCM reads it."""
    import gdcm
    import numpy as np
    import pydicom

    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    if not reader.Read():
        raise ValueError("GDCM cannot read the file")
    values = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), dtype="<u2")
    frames = values.reshape(-1, dataset.Rows, dataset.Columns)
    return frames if frame is None else frames[frame]


def metaimage(path: str, reader: str) -> Any:
    """A MetaImage or NRRD as SimpleITK gives it, ([slices,] rows, columns[, 3]), and its place in ITK's words."""
    import SimpleITK

    from radsynth.errors import RejectedFile

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        loaded = SimpleITK.ReadImage(path, imageIO=reader)
    except RuntimeError as error:  # the last of many lines is the reason: "[nrrd] function: reason"
        reason = re.sub(r"^(\[nrrd\] \w+|Reason): ", "", str(error).strip().splitlines()[-1])
        raise RejectedFile(f"SimpleITK cannot read it: {reason[:300]}") from None
    facts = {"direction": loaded.GetDirection(), "spacing": loaded.GetSpacing(), "origin": loaded.GetOrigin()}
    return SimpleITK.GetArrayViewFromImage(loaded).copy(), facts


def picture(path: str, mask: bool) -> Any:
    """A PNG or JPEG, (rows, columns[, 3])."""
    from radsynth.io._pillow import pixels

    return pixels(path, mask=mask)


def tiff(path: str) -> Any:
    """All pages of a TIFF."""
    from radsynth.io._tiff import pages

    return pages(path)


DECODERS = {function.__name__: function for function in (dicom, metaimage, picture, tiff)}


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The head of the answer, and the bytes that follow it."""
    import numpy as np

    from radsynth.errors import RejectedFile

    try:
        found = DECODERS[request.pop("kind")](**request)
        values, facts = found if isinstance(found, tuple) else (found, {})
        values = np.ascontiguousarray(values)
        head = {"shape": values.shape, "dtype": values.dtype.str, "bytes": values.nbytes, "facts": facts}
        return head, values.view(np.uint8).data if values.size else b""
    except RejectedFile as error:
        return {"rejected": str(error)}, b""
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}, b""


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a codec prints must not mix with the answers
    limit_resources()
    sys.modules["requests"] = None  # type: ignore[assignment]  # a fifth of pydicom's start, for downloading examples
    warnings.simplefilter("ignore")
    for line in sys.stdin.buffer:
        try:
            head, payload = answer(json.loads(line))
        except KeyboardInterrupt:
            return
        except BaseException as error:  # pylibjpeg's Rust codecs raise panics that are no Exception
            head, payload = {"error": f"{type(error).__name__}: {error}"[:500]}, b""
        said = json.dumps(head).encode("ascii")
        answers.write(len(said).to_bytes(HEAD_BYTES, "little") + said)
        answers.write(payload)
        answers.flush()


if __name__ == "__main__":
    main()

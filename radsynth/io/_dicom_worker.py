"""The child that decodes compressed DICOM frames: a codec that crashes, hangs or eats memory costs one file.

Reads one JSON request a line from standard input: {"path", "frame", "gdcm"}, a frame of null for all frames. Answers
with one JSON line, {"error"} or {"shape", "dtype", "bytes"}, and then the pixels.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

MEMORY = 4 * 2**30
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


def decode(request: dict[str, Any]) -> Any:
    """One frame (or all) as stored, ([frames,] rows, columns[, 3]); JPEG's own colours are turned into RGB."""
    import pydicom
    from pydicom.pixels import get_decoder, pixel_array

    dataset = pydicom.dcmread(request["path"], stop_before_pixels=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not request["gdcm"]:
        with contextlib.suppress(NotImplementedError, ValueError):
            get_decoder(syntax).remove_plugin("gdcm")
    elif syntax == JPEG_EXTENDED and dataset.BitsStored > 8:
        return decode_12_bits(request["path"], request["frame"], dataset)
    if syntax in JPEG_2000:
        with contextlib.suppress(Exception):  # what it declines another decoder may read
            return pixel_array(request["path"], index=request["frame"], decoding_plugin="pylibjpeg")
    return pixel_array(request["path"], index=request["frame"])


def decode_12_bits(path: str, frame: int | None, dataset: Any) -> Any:
    """12-bit JPEG by GDCM's own reader: pydicom's plug-in declines it, GDCM reads it."""
    import gdcm
    import numpy as np

    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    if not reader.Read():
        raise ValueError("GDCM cannot read the file")
    values = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), dtype="<u2")
    frames = values.reshape(-1, dataset.Rows, dataset.Columns)
    return frames if frame is None else frames[frame]


def main() -> None:
    """Serve requests until standard input ends."""
    import warnings

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a codec prints must not mix with the answers
    limit_resources()
    warnings.simplefilter("ignore")
    for line in sys.stdin.buffer:
        try:
            frame = decode(json.loads(line))
            payload = frame.tobytes()
            head = {"shape": frame.shape, "dtype": frame.dtype.str, "bytes": len(payload)}
        except KeyboardInterrupt:
            return
        except BaseException as error:  # pylibjpeg's Rust codecs raise panics that are no Exception
            head, payload = {"error": f"{type(error).__name__}: {error}"[:500]}, b""
        answers.write(json.dumps(head).encode("ascii") + b"\n" + payload)
        answers.flush()


if __name__ == "__main__":
    main()

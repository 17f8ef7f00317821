"""CSV files as spreadsheets of many languages write them: their encoding, and the sign that parts their cells."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

TOLD_SIGN = re.compile(r'"?sep=(.)"?\r?\n')
"""The first line by which a table tells Excel its sign."""

GUESSED = "Windows-1252"
"""The encoding of what is neither UTF-8 nor UTF-16."""


GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table's text, the sign that parts its cells, and its encoding."""

    text: str
    sign: str
    encoding: str

    def rows(self) -> csv.DictReader[str]:
        """The lines, by the names of the columns."""
        return csv.DictReader(io.StringIO(self.text, newline=""), delimiter=self.sign)

    def foreign(self) -> str:
        """The first cell with other letters than those of English, "" without one."""
        return next((cell.strip() for line in csv.reader(io.StringIO(self.text, newline=""), delimiter=self.sign)
                     for cell in line if not cell.isascii()), "")


def cells_of(path: Path) -> Cells:
    """UTF-8, UTF-16 (Excel's 'Unicode text') or else Windows-1252 (its 'CSV' in Western Europe), parted by commas,
    semicolons or tabs. OSError, UnicodeDecodeError, csv.Error: it is none of them."""
    content = path.read_bytes()
    if content.startswith(GZIP):
        raise csv.Error("it is packed (gzip): unpack it")
    text, encoding = _decoded(content)
    told = TOLD_SIGN.match(text)
    text = text[told.end():] if told else text
    head = text.partition("\n")[0]
    return Cells(text=text, sign=told[1] if told else max(",;\t", key=head.count), encoding=encoding)


def _decoded(content: bytes) -> tuple[str, str]:
    """The text and its encoding."""
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in content[:2]:  # English letters of UTF-16 without its mark
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError:
        if encoding != "utf-8-sig":
            raise
        return content.decode(GUESSED), GUESSED

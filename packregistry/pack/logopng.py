"""logo.png: is it the image it says it is, without decoding it."""

from __future__ import annotations

import struct
import zlib

from packregistry.pack.findings import Findings

FILE = "logo.png"
SIDE_MAX = 16_384
CHUNKS_MAX = 10_000

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_SIDES = struct.Struct(">II")
_OTHERS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\1\0", "ICO"),
)


def check(data: bytes, findings: Findings) -> None:
    """Report an image of another format or a damaged one (warning), or something that is no image (error)."""
    if data.startswith(_SIGNATURE):
        if damage := _damage(data):
            findings.warning(FILE, f"is a damaged PNG: {damage}", "export it again as PNG")
    elif name := _other_format(data):
        findings.warning(FILE, f"is a {name} image by the name of a PNG", "convert it to PNG")
    elif data.startswith(b"version https://git-lfs.github.com/"):
        findings.error(FILE, "is a pointer of Git LFS instead of the image", "run `git lfs pull` first")
    else:
        findings.error(FILE, "is empty" if not data else "is not an image", "put a PNG image there")


def _other_format(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp" and data[8:12] in {b"avif", b"avis"}:
        return "AVIF"
    if b"<svg" in data[:2048].lower():
        return "SVG"
    return next((name for magic, name in _OTHERS if data.startswith(magic)), "")


def _damage(data: bytes) -> str:
    """What is wrong with the chunks of a PNG, or an empty string (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    position = len(_SIGNATURE)
    for count in range(CHUNKS_MAX):
        if position + 12 > len(data):
            return "it ends before its end"
        size, kind = _HEAD.unpack_from(data, position)
        end = position + 12 + size
        if end > len(data):
            return "it ends before its end"
        body = memoryview(data)[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            return "a checksum is wrong"
        if count == 0:
            if kind != b"IHDR" or size != 13:
                return "it does not begin with a header"
            width, height = _SIDES.unpack_from(data, position + 8)
            if not (0 < width <= SIDE_MAX and 0 < height <= SIDE_MAX):
                return f"it claims to be {width} x {height} pixels"
        if kind == b"IEND":
            return ""
        position = end
    return f"it has more than {CHUNKS_MAX} parts"

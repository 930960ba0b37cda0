"""Width and height of an inline image, from its header alone."""

from __future__ import annotations

import base64
import binascii
from typing import Final

_HEAD_BYTES_MAX: Final = 256 * 1024
"""JPEG puts its size behind thumbnails and colour profiles, so its header may be long."""

_JPEG_SIZES: Final = frozenset(
    {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
)


def decoded_size(data: str) -> int:
    """Bytes that base64 text stands for, at most; a ``data:`` URL's prefix does not count."""
    if data.startswith("data:"):
        data = data[data.find(",") + 1 :]
    return len(data) * 3 // 4


def measure(url: str) -> tuple[int | None, int | None]:
    """Width and height in pixels of a ``data:`` URL's PNG, JPEG, GIF or WebP, else None, None."""
    head, comma, data = url[: _HEAD_BYTES_MAX * 4 // 3 + 100].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None, None
    return measure_base64(data)


def measure_base64(data: str) -> tuple[int | None, int | None]:
    """As :func:`measure`, for bare base64 text."""
    data = data[: _HEAD_BYTES_MAX * 4 // 3]
    try:
        found = _measure(base64.b64decode(data[: len(data) // 4 * 4]))
    except (binascii.Error, ValueError, IndexError):
        found = None
    return found or (None, None)


def _measure(head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head[:6] in {b"GIF87a", b"GIF89a"} and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _measure_webp(head)
    if head[:2] == b"\xff\xd8":
        return _measure_jpeg(head)
    return None


def _measure_webp(head: bytes) -> tuple[int, int] | None:
    if len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(head[24:27], "little") + 1,
            int.from_bytes(head[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return (
            int.from_bytes(head[26:28], "little") & 0x3FFF,
            int.from_bytes(head[28:30], "little") & 0x3FFF,
        )
    return None


def _measure_jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker in _JPEG_SIZES:
            height, width = head[at + 5 : at + 7], head[at + 7 : at + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        standalone = marker in {0x01, 0xFF} or 0xD0 <= marker <= 0xD8
        at += 2 if standalone else 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None

"""Tokens of one image in the prompt, by provider: the published formulas and their caps."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from taximeter.tokens.families import CLAUDE, CLAUDE_NEW, GEMINI, GPT_4O, GPT_5, GPT_35, Family
from taximeter.wire.base import Image


class ImageCount(NamedTuple):
    """Tokens of an image; ``bound`` is None where neither size nor cap is known."""

    expected: float
    likely_max: float
    bound: int | None


_PATCH_MODELS: Final = {  # 32-pixel patches: at most 1536, times a factor of the model
    "gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46, "o4-mini": 1.72, "gpt-5-mini": 1.62,
    "gpt-5-nano": 2.46,
}  # fmt: skip
_PATCHES_MAX: Final = 1_536
_TILE_MODELS: Final = {  # base, tile of 512 pixels
    "gpt-4o-mini": (2_833, 5_667), "o1": (75, 150), "o3": (75, 150), "computer-use": (65, 129),
    "gpt-4o": (85, 170), "gpt-4.1": (85, 170), "gpt-4.5": (85, 170), "gpt-4": (85, 170),
}  # fmt: skip
_TILES_MAX: Final = 8  # 2048 x 768 is the largest size after scaling


def count_image(image: Image, *, family: Family, model: str) -> ImageCount:
    """Tokens of ``image`` for this model. Sizes in pixels; without them, the model's cap."""
    size = (image.width, image.height) if image.width and image.height else None
    if family in (CLAUDE, CLAUDE_NEW):
        return _claude(size, cap=1_700 if family is CLAUDE else 4_900)
    if family is GEMINI:
        return _gemini(size, newer="gemini-2" not in model and "gemini-1" not in model)
    if family in (GPT_4O, GPT_35, GPT_5):
        return _openai(image, size, model.lower())
    return _unknown(size)


def _claude(size: tuple[int, int] | None, *, cap: int) -> ImageCount:
    if size is None:
        return ImageCount(min(cap, 1_369), cap, cap)
    width, height = size
    tokens = max(ceil(width / 28) * ceil(height / 28), ceil(width * height / 750)) + 8
    return ImageCount(min(tokens, cap), min(tokens, cap), min(tokens, cap))


def _gemini(size: tuple[int, int] | None, *, newer: bool) -> ImageCount:
    if newer:  # One budget an image: 1120 unless a higher resolution is asked for, 2240 at most.
        return ImageCount(1_090, 1_150, 2_400)
    if size is None:
        return ImageCount(258, 5_200, None)
    width, height = size
    if width <= 384 and height <= 384:
        return ImageCount(258, 280, 280)
    unit = min(768, max(256, int(min(size) / 1.5)))  # Vertex crops by the shorter side.
    tiles = 258 * ceil(width / unit) * ceil(height / unit)
    return ImageCount(min(tiles, 258 * 6), tiles + 20, tiles + 20)


def _openai(image: Image, size: tuple[int, int] | None, model: str) -> ImageCount:
    for name, factor in _PATCH_MODELS.items():
        if name in model:
            patches = _PATCHES_MAX
            if size is not None:
                patches = min(_patches(size), _PATCHES_MAX)
            bound = ceil(patches * factor) + 8
            return ImageCount(bound if size else bound * 0.67, bound, bound)
    for name, (base, tile) in _TILE_MODELS.items():
        if name in model:
            bound = base + tile * _TILES_MAX
            if image.detail == "low":
                return ImageCount(base, base, base + 8)
            if size is None:
                return ImageCount(base + 4 * tile, bound, bound)
            return ImageCount(base + tile * _tiles(size), base + tile * _tiles(size) + 8, bound)
    if size is None:  # gpt-5 and later: patches x 1.2, on the newest without a cap.
        return ImageCount(1_229, 3_600, None)
    tokens = max(ceil(_patches(size) * 1.2), 70 + 140 * _tiles(size)) + 8
    return ImageCount(min(tokens, 3_600), tokens, tokens)


def _patches(size: tuple[int, int]) -> int:
    return ceil(size[0] / 32) * ceil(size[1] / 32)


def _tiles(size: tuple[int, int]) -> int:
    """512-pixel tiles after fitting into 2048 x 2048, then the short side to 768."""
    scale = min(1.0, 2048 / max(size))
    scale = min(scale, 768 / min(size))
    return ceil(size[0] * scale / 512) * ceil(size[1] * scale / 512)


def _unknown(size: tuple[int, int] | None) -> ImageCount:
    if size is None:
        return ImageCount(1_500, 6_500, None)
    width, height = size
    # The finest patch in use is 14 pixels; with a row mark each.
    bound = ceil(width / 14) * (ceil(height / 14) + 1) + 16
    return ImageCount(min(bound / 4, 1_500), min(bound, 6_500), bound)

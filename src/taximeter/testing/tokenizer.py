"""The simulated provider's own idea of a token, on purpose not ours.

An invoice must not be made with the counting that it is held against. Text is cut into words, short
runs of digits or punctuation and single other characters; ``skew`` makes the count up to that share
larger or smaller. A token is never less than one character, so UTF-8 bytes bound every count.
"""

from __future__ import annotations

import random
import re
from typing import Final

from taximeter.errors import ConfigurationError

_PIECE: Final = re.compile(
    r" ?[A-Za-z\u00c0-\u024f]+| ?[0-9]{1,3}| ?[!-/:-@\[-`{-~]{1,3}|\s{1,16}|.", re.DOTALL
)
_WORDS: Final = (
    " the of and a to in is you that it he was for on are as with his they at be this have from or"
    " one had by word but not what all were we when your can said there use an each which she do how"
    " their if will up other about out many then them these so some her would make like him into"
    " time has look two more write go see number no way could people my than first water been call"
    " who oil its now find long down day did get come made may part"
).split()


class Tokenizer:
    """Cuts text into tokens, the same way for the same seed.

    Args:
        seed: Where in a text the skew begins to show.
        piece_bytes_max: Longer words are cut into pieces of at most so many characters, at least 2.
        skew: Share by which it counts more (positive) or less (negative): -0.5 to 1.
    """

    def __init__(self, seed: int = 0, *, piece_bytes_max: int = 12, skew: float = 0.0) -> None:
        if piece_bytes_max < 2:
            raise ConfigurationError(f"piece_bytes_max={piece_bytes_max!r} is below 2")
        if not -0.5 <= skew <= 1:
            raise ConfigurationError(f"skew={skew!r} is not a share from -0.5 to 1")
        self._piece_max = piece_bytes_max
        self._skew = skew
        self._offset = random.Random(seed).random()

    def split(self, text: str) -> list[str]:
        """Tokens of ``text``. Their join is the text; an empty one is a part of the next character."""
        pieces: list[str] = []
        for piece in _PIECE.findall(text):
            if len(piece) > self._piece_max:
                pieces += [
                    piece[at : at + self._piece_max] for at in range(0, len(piece), self._piece_max)
                ]
            elif piece > "\uffff":  # Four bytes of UTF-8: two tokens, visible with the second.
                pieces += ["", piece]
            else:
                pieces.append(piece)
        return self._skewed(pieces) if self._skew else pieces

    def count(self, text: str) -> int:
        """How many tokens ``text`` has."""
        return len(self.split(text))

    def write(self, tokens: int, *, seed: int) -> list[str]:
        """Made-up text of exactly so many tokens, as :meth:`split` would cut it."""
        choose = random.Random(seed)
        words = " ".join(choose.choices(_WORDS, k=64))
        phrase = self.split(words)
        if self._skew:
            # The skew runs on from piece to piece, so that only the whole text can be cut.
            phrase = self.split((words + " ") * (2 * tokens // len(phrase) + 1))
            return phrase[:tokens]
        phrase = [phrase[0], *self.split(" " + words)]
        repeats = -(-max(0, tokens - 1) // (len(phrase) - 1))
        return (phrase[:1] + phrase[1:] * repeats)[:tokens]

    def _skewed(self, pieces: list[str]) -> list[str]:
        """Spread the skew evenly, so that no text is ever further off than the share."""
        due = self._offset
        step = abs(self._skew)
        grow = self._skew > 0
        result: list[str] = []
        for piece in pieces:
            due += step
            if due < 1:
                result.append(piece)
                continue
            if grow and len(piece) > 1:
                result += [piece[:1], piece[1:]]
                due -= 1
            elif not grow and result:
                result[-1] += piece
                due -= 1
            else:
                result.append(piece)
            due = min(due, 1.0)
        return result

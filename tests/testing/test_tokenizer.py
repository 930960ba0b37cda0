"""The provider's own tokenizer: what holds for every text, seed and skew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.errors import ConfigurationError
from taximeter.testing import Tokenizer

SKEWS = st.floats(min_value=-0.5, max_value=1.0)
TEXTS = st.text() | st.text(alphabet=" abc.,1é漢😀\n")


@given(text=TEXTS, seed=st.integers(0, 99), skew=SKEWS)
def test_tokens_join_to_the_text_and_are_bounded_by_its_bytes(text, seed, skew):
    pieces = Tokenizer(seed, skew=skew).split(text)
    assert "".join(pieces) == text
    assert len(pieces) <= len(text.encode("utf-8", "surrogatepass"))


@given(text=TEXTS, seed=st.integers(0, 99), skew=SKEWS)
def test_the_count_is_never_further_off_than_the_skew(text, seed, skew):
    plain = Tokenizer(seed).count(text)
    skewed = Tokenizer(seed, skew=skew).count(text)
    low, high = sorted((plain, plain * (1 + skew)))
    assert low - 1 <= skewed <= high + 1


def test_a_skew_shows_in_ordinary_text():
    text = "The quick brown fox jumps over the lazy dog. " * 50
    plain = Tokenizer().count(text)
    assert Tokenizer(skew=0.2).count(text) == pytest.approx(plain * 1.2, abs=2)
    assert Tokenizer(skew=-0.2).count(text) == pytest.approx(plain * 0.8, abs=2)


@given(tokens=st.integers(0, 500), seed=st.integers(0, 999))
def test_made_up_text_has_exactly_the_tokens_asked_for(tokens, seed):
    tokenizer = Tokenizer(seed)
    pieces = tokenizer.write(tokens, seed=seed)
    assert len(pieces) == tokens
    assert tokenizer.split("".join(pieces)) == pieces


@given(tokens=st.integers(0, 300), seed=st.integers(0, 99), skew=SKEWS)
def test_made_up_text_is_long_enough_for_every_skew(tokens, seed, skew):
    assert len(Tokenizer(seed, skew=skew).write(tokens, seed=seed)) == tokens


def test_long_words_and_emoji_are_several_tokens():
    tokenizer = Tokenizer(piece_bytes_max=4)
    assert tokenizer.split("characters") == ["char", "acte", "rs"]
    assert tokenizer.split("a😀") == ["a", "", "😀"]


@pytest.mark.parametrize("options", [{"skew": 2}, {"skew": -0.9}, {"piece_bytes_max": 1}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigurationError, match=str(next(iter(options.values())))):
        Tokenizer(**options)

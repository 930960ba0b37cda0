"""Token estimates without a vocabulary."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.tokens import vocabulary
from taximeter.tokens.scripts import SAMPLE_BYTES, estimate

PROSE = (
    "A taximeter runs while you ride, shows the fare so far, and a hired cab with a prepaid limit "
    "stops before it is passed. This one runs on calls, above all on streams, where the usual tools "
    "learn the price only after the ride."
)
SAMPLES = {
    "prose": PROSE,
    "json": json.dumps({"id": 17, "name": "get_weather", "city": "Paris", "tags": ["a", "b"]}),
    "code": "def place(balance, hold):\n    if hold.amount > balance.available:\n        raise Error()\n",
    "base64": base64.b64encode(bytes(range(256))).decode(),
    "digits": " ".join(str(n**3) for n in range(60)),
    "chinese": "人工智能模型按令牌计费，因此在请求发送之前估计成本非常重要。",
    "japanese": "これはトークン数を見積もるための日本語の文章です。",
    "korean": "이 문장은 토큰 수를 추정하기 위한 한국어 예문입니다.",
    "russian": "Это предложение на русском языке нужно для оценки количества токенов.",
    "greek": "Αυτή η πρόταση είναι γραμμένη στα ελληνικά για την εκτίμηση των συμβόλων.",
    "arabic": "هذه جملة باللغة العربية لتقدير عدد الرموز في الطلب قبل إرساله.",
    "hindi": "यह वाक्य हिंदी में है ताकि टोकन की संख्या का अनुमान लगाया जा सके।",
    "thai": "ประโยคนี้เป็นภาษาไทยเพื่อประมาณจำนวนโทเค็นในคำขอ",
    "emoji": "🎉🚀😀👩‍👩‍👧‍👦🏳️‍🌈🇩🇪✨",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_high_estimate_covers_both_vocabularies_in_every_script(name: str) -> None:
    if not vocabulary.available():
        pytest.skip("the extra [tokens] is not installed: nothing to compare with")
    expected, high = estimate(SAMPLES[name])
    for vocabulary_name in ("o200k_base", "cl100k_base"):
        tokens = vocabulary.count(SAMPLES[name], vocabulary_name)
        assert tokens is not None
        assert tokens <= 1.25 * high  # 1.25: the narrowest family's own margin
    assert 0.5 <= expected / (vocabulary.count(SAMPLES[name], "o200k_base") or 1) <= 2.5


def test_prose_is_estimated_within_a_fifth() -> None:
    assert estimate(PROSE)[0] == pytest.approx(47, rel=0.2)  # o200k: 47


@given(st.text(), st.text())
def test_estimates_add_up_over_parts(left: str, right: str) -> None:
    both = estimate(left + right)
    parts = [a + b for a, b in zip(estimate(left), estimate(right), strict=True)]
    assert both == pytest.approx(parts)


@given(st.text())
def test_the_high_estimate_is_never_below_the_expected_one(text: str) -> None:
    expected, high = estimate(text)
    assert 0 <= expected <= high


def test_a_long_text_is_judged_by_its_parts() -> None:
    once = estimate(PROSE)[0]
    times = 4 * SAMPLE_BYTES // len(PROSE)
    assert estimate(PROSE * times)[0] == pytest.approx(once * times, rel=0.01)

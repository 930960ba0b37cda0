"""Two price lists made apart say the same: the provider's own, and the embedded price book."""

from __future__ import annotations

import pytest

from taximeter.pricing.book import embedded
from taximeter.testing import Invoice
from taximeter.testing.invoice import DATED, PRICES
from taximeter.usage import Usage

LONG = {"input_tokens": 300_000, "output_tokens": 10}
CACHED = {"input_tokens": 1000, "cached_input_tokens": 300, "output_tokens": 200}
WRITTEN = {"input_tokens": 1000, "cache_write_5m_tokens": 100, "cache_write_1h_tokens": 50}


def vendor(model: str) -> str:
    return "anthropic" if "claude" in model else "google" if "gemini" in model else "openai"


@pytest.mark.parametrize("model", sorted({*PRICES, *DATED.values()}))
def test_the_invoices_list_and_the_price_book_agree(model):
    book, invoice = embedded(), Invoice()
    card = book.find(vendor(model), model)
    assert card is not None
    shapes = [LONG, CACHED] + [WRITTEN] * (vendor(model) == "anthropic")
    if "embedding" in model:
        shapes = [{"input_tokens": 1000}]
    for counts in shapes:
        usage = Usage(**counts)
        assert invoice.cost(model, usage.to_dict()) == book.cost(card, usage).settled

"""Readable failures from the suites that stores share."""

import pytest

pytest.register_assert_rewrite("taximeter.testing.conformance", "taximeter.testing.store_model")

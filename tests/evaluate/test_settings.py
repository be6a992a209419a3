"""Settings: their bounds, and what they exclude."""

from dataclasses import replace
from typing import Any

import pytest

from mrnn.data.errors import SettingError
from mrnn.evaluate.settings import DecodingConfig, RetrievalConfig


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (DecodingConfig, {"beam": 0}, "beam must be at least 1"),
        (DecodingConfig, {"max_steps": 0}, "max_steps must be at least 1"),
        (DecodingConfig, {"temperature": 0.0}, "temperature must be above 0"),
        (DecodingConfig, {"temperature": float("nan")}, "temperature must be above 0"),
        (DecodingConfig, {"top_k": -1}, "top_k must be at least 0"),
        (DecodingConfig, {"sample": True}, "use a beam of 1"),
        (RetrievalConfig, {"pool": 0}, "pool must be at least 1"),
        (RetrievalConfig, {"top": 0}, "top must be at least 1"),
        (RetrievalConfig, {"bound_words": 0}, "bound_words must be at least 1"),
        (RetrievalConfig, {"normaliser_images": -1}, "normaliser_images must be at least 0"),
        (RetrievalConfig, {"folds": 2}, "--pool 1000 --folds 5"),
    ],
)
def test_values_that_are_refused(config: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        config(**values)


def test_what_only_affects_the_speed_changes_no_result() -> None:
    config = RetrievalConfig(pool=10)
    other = replace(config, bound_words=8, full_pass=True)
    assert config.changing_results() == other.changing_results()
    assert config.changing_results() != replace(config, pool=11).changing_results()

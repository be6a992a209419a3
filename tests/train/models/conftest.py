"""A small model of every kind, and data for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mrnn.data.cache import FeatureCache
from mrnn.data.vocabulary import build_vocabulary
from mrnn.train.features import Features
from mrnn.train.models import KINDS
from mrnn.train.models.captioner import Captioner
from mrnn.train.sentences import Sentences, sentences_of, tokenized_sentences
from tests.variants import VARIANTS

Data = tuple[Sentences, Features, int]
SMALL: dict[str, dict[str, Any]] = {
    "mrnn": {"embedding1": 5, "embedding2": 6, "recurrent": 6, "multimodal": 7},
    "rnn-base": {"embedding1": 5, "embedding2": 6, "recurrent": 6, "multimodal": 7},
    "mrnn-image-recurrent": {"embedding1": 5, "embedding2": 6, "recurrent": 6, "multimodal": 7},
    "generator": {"embedding": 5, "hidden": 8},
    # The test sentences have 3 to 13 words: some more than these contexts.
    "transformer": {"layers": 2, "heads": 2, "width": 8, "context": 8, "multimodal": 7},
    "lbl": {"embedding": 6, "context": 3},
    "mlbl-b": {"embedding": 6, "context": 3, "hidden": 8},
    "mlbl-f": {"embedding": 6, "context": 3, "hidden": 8, "factors": 7},
}


def small_model(name: str, vocabulary: int, **changes: Any) -> Captioner:
    kind_name = name.split(" ")[0]
    kind = KINDS[kind_name]
    settings = {"dropout": 0.0, "image_dropout": 0.0, "recurrence_init": "orthogonal", "output_scale": 1.0}
    settings |= {**SMALL[kind_name], **VARIANTS.get(name, {}), **changes}
    own = {setting: value for setting, value in settings.items() if setting in kind.settings()}
    model = kind.build(kind.config(vocabulary, 16, **own))
    model.initialise(torch.Generator().manual_seed(1))
    return model


@pytest.fixture(scope="session")
def small() -> Callable[..., Captioner]:
    """Make a small model of a kind or of a variant, without dropout.

    Its arguments are the name, the size of the vocabulary, and changes of settings, where the kind has them.
    """
    return small_model


@pytest.fixture(scope="session")
def data(cache: FeatureCache) -> Data:
    words, _ = tokenized_sentences(cache, cache.done("train"))
    vocabulary = build_vocabulary(words, cutoff=2)
    return sentences_of(cache, "train", vocabulary), Features(cache), len(vocabulary)

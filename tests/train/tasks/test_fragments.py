"""The objective of DeFrag against a loop over words and regions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.errors import SettingError
from mrnn.train.loop import train
from mrnn.train.pairs import MatchingBatch
from mrnn.train.prepare import prepare
from mrnn.train.settings import RunOptions, TrainSettings
from mrnn.train.tasks.fragments import FragmentMatching, fragment_cost, positive_products
from mrnn.train.tasks.matching import Matching, margin_cost

QUIET = RunOptions(device="cpu", tensorboard=False, log_every=4)


def make_batch(sentence: list[int], valid: list[list[bool]]) -> MatchingBatch:
    """A batch of which the cost looks at nothing but the sentences of its rows and the valid regions."""
    images, regions = len(valid), len(valid[0])
    lengths = [max(1, sentence.count(number)) for number in range(images)]
    return MatchingBatch(
        tokens=torch.zeros(len(sentence), dtype=torch.int64),
        sizes=[],
        mirrored=torch.arange(len(sentence)),
        sentence=torch.tensor(sentence),
        lengths=torch.tensor(lengths),
        features=torch.zeros(images, regions, 1),
        valid=torch.tensor(valid),
        hardest=False,
        sentences=np.arange(images),
        count=images,
    )


def looped(products: Tensor, batch: MatchingBatch) -> float:
    total = 0.0
    for row, own in enumerate(batch.sentence.tolist()):
        if own < 0:
            continue
        dots = {
            (region, image): products[row, region, image].item()
            for image in range(len(batch.valid))
            for region in range(batch.valid.shape[1])
            if batch.valid[image, region]
        }
        mine = [place for place in dots if place[1] == own]
        positive = [place for place in mine if dots[place] > 0] or [max(mine, key=lambda place: dots[place])]
        negative = [place for place in dots if place not in positive]
        total += sum(max(0, 1 - dots[place]) for place in positive) / len(positive)
        if negative:
            total += sum(max(0, 1 + dots[place]) for place in negative) / len(negative)
    return total


SENTENCES = [1, 0, 2, 0, -1, 1, 0, 2, -1]
VALID = [[True, True, True], [True, False, True], [True, False, False]]


def drawn(
    seed: int, *, shift: float = 0.0, sentences: list[int] = SENTENCES, valid: list[list[bool]] = VALID
) -> Tensor:
    """Products of a batch in double precision; 0 where there is no region, as the model leaves them."""
    generator = torch.Generator().manual_seed(seed)
    products = torch.randn(len(sentences), len(valid[0]), len(valid), generator=generator, dtype=torch.float64) + shift
    return products * torch.tensor(valid).t()


@pytest.mark.parametrize("shift", [0.0, -3.0, 3.0], ids=["mixed", "all below 0", "all above 0"])
def test_cost_against_a_loop(shift: float) -> None:
    batch = make_batch(SENTENCES, VALID)
    for seed in range(5):
        products = drawn(seed, shift=shift)
        assert fragment_cost(products, batch).item() == pytest.approx(looped(products, batch), rel=1e-12)
        narrow = fragment_cost(products.float(), batch)
        assert narrow.dtype == torch.float32
        assert narrow.item() == pytest.approx(looped(products, batch), rel=1e-5)


@pytest.mark.parametrize("valid", [[[True, True]], [[True, False]]], ids=str)
def test_one_image_alone_has_no_other_regions(valid: list[list[bool]]) -> None:
    batch = make_batch([0, 0], valid)
    for products in (torch.full((2, 2, 1), 0.25), torch.full((2, 2, 1), -0.5)):
        products = products.double() * torch.tensor(valid).t()
        assert fragment_cost(products, batch).item() == pytest.approx(looped(products, batch), rel=1e-12)


def test_a_worked_example() -> None:
    """One word, two images of two regions. Its own products are -0.5 and -2, so the first is made positive."""
    batch = make_batch([0], [[True, True], [True, True]])
    products = torch.tensor([[[-0.5, 0.25], [-2.0, -3.0]]])
    assert positive_products(products, batch).tolist() == [[[True, False], [False, False]]]
    # Positive: 1 + 0.5. Negative: 0 for -2, 1.25 for 0.25, 0 for -3.
    assert fragment_cost(products, batch).item() == pytest.approx(1.5 + 1.25 / 3)


def test_every_word_has_a_positive_region_of_its_own_image_and_rows_of_no_sentence_have_none() -> None:
    batch = make_batch(SENTENCES, VALID)
    for shift in (0.0, -3.0):
        chosen = positive_products(drawn(0, shift=shift), batch)
        for row, own in enumerate(SENTENCES):
            counts = chosen[row].sum(0).tolist()
            assert [image for image, count in enumerate(counts) if count] == ([own] if own >= 0 else [])
            assert not chosen[row][~batch.valid.t()].any()
    equal = positive_products(torch.zeros(9, 3, 3), batch)  # as of words whose vector is 0
    assert equal.sum((1, 2)).tolist() == [int(own >= 0) for own in SENTENCES]


def test_gradient_against_finite_differences_and_none_outside() -> None:
    batch, products = make_batch(SENTENCES, VALID), drawn(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: fragment_cost(each, batch), (products,))
    (gradient,) = torch.autograd.grad(fragment_cost(products, batch), products)
    assert not gradient[batch.sentence < 0].any()
    assert not gradient[:, ~batch.valid.t()].any()
    assert gradient[batch.sentence >= 0].any()


def test_the_cost_of_a_model_is_of_pairs_and_of_the_undivided_products(
    region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings]
) -> None:
    settings = tiny_kinds["defrag"].but(fragments=0.3, margin=0.7, dropout=0.0, embedding_scale=1.0)
    training = prepare(region_cache, settings, QUIET, last=None, report=lambda line: None)
    assert isinstance(training.task, FragmentMatching)
    batches = training.task.batches(training.data, settings, epoch=0, skip=0, part=(0, 1), rectangular=False)
    batch = next(iter(batches))
    assert isinstance(batch, MatchingBatch)
    valid = batch.valid.clone()
    valid[0, 1:] = False
    valid[3, 1] = False
    batch = replace(batch, features=batch.features.double(), valid=valid)
    model = training.model.double()
    words, regions = model.words(batch), model.regions(batch.features, batch.valid)  # type: ignore[operator]
    length = batch.lengths[batch.sentence.clamp(min=0)]
    whole_words, whole_regions = words * (length + 5)[:, None], regions * batch.valid.sum(1)[:, None]
    products = torch.einsum("ph,rbh->prb", whole_words, whole_regions).detach()
    pairs = margin_cost(model(batch), margin=0.7, hardest=False).item()
    found = training.task.cost(model, batch).item()
    assert found == pytest.approx(pairs + 0.3 * looped(products, batch), rel=1e-10)
    assert Matching(settings).cost(model, batch).item() == pytest.approx(pairs, rel=1e-10)  # type: ignore[arg-type]


def test_training_lowers_the_cost_and_the_share_of_fragments_matters(
    region_cache: FeatureCache, tiny_kinds: dict[str, TrainSettings], tmp_path: Path
) -> None:
    settings = tiny_kinds["defrag"].but(epochs=5, dropout=0.0, embedding_scale=0.5, clip_values=0.0, lr=0.02)
    hinges = {}
    for weight in (0.0, 0.1):
        train(region_cache, tmp_path / str(weight), settings.but(fragments=weight), options=QUIET)
        lines = [json.loads(line) for line in (tmp_path / str(weight) / "metrics.jsonl").read_text().splitlines()]
        hinges[weight] = [line["train_hinge"] for line in lines if line["kind"] == "epoch"]
        assert hinges[weight][-1] < 0.9 * hinges[weight][0]
    assert hinges[0.0] != hinges[0.1]


def test_only_defrag_has_the_weight_of_fragments_and_its_score_is_no_setting() -> None:
    with pytest.raises(SettingError, match="fragments is not a setting of alignment"):
        TrainSettings.of(model="alignment", fragments=0.1)
    with pytest.raises(SettingError, match="score is not a setting of defrag"):
        TrainSettings.of(model="defrag", score="max")
    with pytest.raises(SettingError, match="fragments must be at least 0"):
        TrainSettings.of(model="defrag", fragments=-1.0)

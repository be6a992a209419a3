"""The models of matching against their equations, written as loops."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.data.cache import FeatureCache
from mrnn.data.vocabulary import build_vocabulary
from mrnn.train import pairs, products
from mrnn.train.features import Features
from mrnn.train.models import KINDS
from mrnn.train.models.alignment import Alignment
from mrnn.train.models.defrag import DeFrag
from mrnn.train.models.devise import DeViSE
from mrnn.train.models.two_towers import TwoTowers
from mrnn.train.pairs import MatchingBatch, epoch_pairs, pack_pairs
from mrnn.train.sentences import Sentences, sentences_of, tokenized_sentences
from mrnn.train.settings import TrainSettings
from mrnn.train.tasks.matching import Matching, margin_cost

Data = tuple[Sentences, Features, int]
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("alignment", {"score": "max"}),
    ("alignment", {"score": "sum"}),
    ("defrag", {}),
    ("devise", {}),
]


@pytest.fixture(scope="module")
def regions(region_cache: FeatureCache) -> Data:
    words, _ = tokenized_sentences(region_cache, region_cache.done("train"))
    vocabulary = build_vocabulary(words, cutoff=2)
    sentences = sentences_of(region_cache, "train", vocabulary)
    return sentences, Features(region_cache, rows=3), len(vocabulary)


def build(name: str, vocabulary: int, **changes: Any) -> TwoTowers:
    own = {} if name == "devise" else {"hidden": 7, "recurrence_init": "orthogonal"}
    settings = {"embedding": 5, "joint": 6, "dropout": 0.0, "embedding_scale": 1.0, **own, **changes}
    model = KINDS[name].build(KINDS[name].config(vocabulary, 16, **settings))
    assert isinstance(model, TwoTowers)
    model.initialise(torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(-0.2, 0.2, generator=generator)
        model.feature_mean.uniform_(generator=generator)
    return model


def task_of(name: str) -> Matching:
    task: Matching = KINDS[name].task_class()(TrainSettings.of(model=name))
    return task


def make_batch(data: Data, size: int = 9, **changes: Any) -> MatchingBatch:
    """A batch in double precision, in which some images have fewer regions than others."""
    sentences, features, _ = data
    numbers = epoch_pairs(sentences, size, seed=0, epoch=0)[0]
    batch = pack_pairs(sentences, numbers, features, **changes)
    valid = batch.valid.clone()
    valid[1, 1:] = False
    valid[2, 2] = False
    return replace(batch, features=batch.features.double(), valid=valid)


def words_of(data: Data, batch: MatchingBatch) -> Iterator[list[int]]:
    sentences = data[0]
    for number in batch.sentences:
        yield sentences.tokens[sentences.starts[number] : sentences.starts[number + 1]].tolist()


def vectors_of_words(model: TwoTowers, words: list[int]) -> list[Tensor]:
    """s_t, Eqs. 2 to 6 of the paper; of DeViSE, M x_t / T."""
    x = [model.embedding.weight[word] for word in words]
    if isinstance(model, DeViSE):
        return [model.word_to_joint.weight @ each / len(words) for each in x]
    assert isinstance(model, Alignment)
    relu = torch.relu
    e = [relu(model.word_to_hidden.weight @ each + model.hidden_bias) for each in x]
    ahead, behind = [], []
    h = torch.zeros(7, dtype=torch.float64)
    for each in e:
        h = relu(each + model.forwards.weight @ h + model.forwards_bias)
        ahead.append(h)
    h = torch.zeros(7, dtype=torch.float64)
    for each in reversed(e):
        h = relu(each + model.backwards.weight @ h + model.backwards_bias)
        behind.insert(0, h)
    return [relu(model.hidden_to_joint.weight @ (f + b) + model.joint_bias) for f, b in zip(ahead, behind, strict=True)]


def expected_scores(model: TwoTowers, data: Data, batch: MatchingBatch) -> Tensor:
    sentences = [vectors_of_words(model, words) for words in words_of(data, batch)]
    scores = torch.zeros(batch.count, batch.count, dtype=torch.float64)
    for k in range(batch.count):
        inputs = [
            (row - model.feature_mean) * model.feature_scale
            for row, there in zip(batch.features[k], batch.valid[k], strict=True)
            if there
        ]
        v = [model.region.weight @ each + model.region.bias for each in inputs]
        for n, s in enumerate(sentences):
            for word in s:
                dots = [float(region @ word) for region in v]
                scores[k, n] += max(dots) if model.score == "max" else sum(max(0, dot) for dot in dots)
            if isinstance(model, DeFrag):
                scores[k, n] /= len(v) * (len(s) + 5)
    return scores


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_scores_against_the_equations(name: str, changes: dict[str, Any], regions: Data) -> None:
    model = build(name, regions[2], **changes).double().eval()
    batch = make_batch(regions)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), expected_scores(model, regions, batch), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hardest", [False, True])
def test_cost_against_a_loop_without_the_diagonal(hardest: bool) -> None:
    scores = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    total = 0.0
    for k in range(6):
        of_image = [max(0.0, float(scores[k, n] - scores[k, k] + 0.7)) for n in range(6) if n != k]
        of_sentence = [max(0.0, float(scores[n, k] - scores[k, k] + 0.7)) for n in range(6) if n != k]
        total += max(of_image) + max(of_sentence) if hardest else sum(of_image) + sum(of_sentence)
    assert margin_cost(scores, margin=0.7, hardest=hardest).item() == pytest.approx(total, rel=1e-12)
    perfect = torch.eye(6) * 10
    assert margin_cost(perfect, margin=1, hardest=hardest) == 0  # with the diagonal it would be 12
    assert margin_cost(torch.ones(1, 1), margin=1, hardest=hardest) == 0


@pytest.mark.parametrize(("name", "changes"), MODELS)
@pytest.mark.parametrize("hardest", [False, True])
def test_whole_gradient_against_finite_differences(
    name: str, changes: dict[str, Any], hardest: bool, regions: Data
) -> None:
    model, task = build(name, regions[2], **changes).double(), task_of(name)
    batch = make_batch(regions, 5, hardest=hardest)
    task.cost(model, batch).backward()
    generator, step = np.random.default_rng(0), 1e-6
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            assert parameter.grad is not None
            used = torch.nonzero(parameter.grad.flatten())[:, 0].numpy()
            assert len(used), label
            for at in generator.choice(used, size=min(12, len(used)), replace=False):
                values = parameter.view(-1)
                before = values[at].item()
                values[at] = before + step
                up = task.cost(model, batch).item()
                values[at] = before - step
                down = task.cost(model, batch).item()
                values[at] = before
                slope = (up - down) / (2 * step)
                assert parameter.grad.view(-1)[at].item() == pytest.approx(slope, rel=1e-4, abs=1e-6), label


@pytest.mark.parametrize(("name", "changes"), MODELS)
@pytest.mark.parametrize("how", [{"rectangular": True}, {"rounding": 1}], ids=str)
def test_rows_for_the_shape_change_neither_scores_nor_gradients(
    name: str, changes: dict[str, Any], how: dict[str, Any], regions: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = build(name, regions[2], **changes).double(), task_of(name)
    plain = make_batch(regions)
    if "rounding" in how:
        monkeypatch.setattr(pairs, "TOKEN_ROWS", how["rounding"])
        other = make_batch(regions)
        assert len(other.tokens) == sum(other.sizes) < len(plain.tokens)
    else:
        other = make_batch(regions, rectangular=True)
        assert len(set(other.sizes)) == 1
    found = []
    for batch in (plain, other):
        cost = task.cost(model, batch)
        found.append([model(batch), cost, *torch.autograd.grad(cost, tuple(model.parameters()))])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_bfloat16_gives_nearly_the_scores_of_float32(
    name: str, changes: dict[str, Any], regions: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "has_onednn", lambda tensor: False)  # as on a GPU
    model, task = build(name, regions[2], **changes), task_of(name)
    batch = make_batch(regions)
    batch = replace(batch, features=batch.features.float())
    exact = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough, cost = model(batch), task.cost(model, batch)
        cost.backward()
    assert rough.dtype == cost.dtype == torch.float32
    assert cost.item() == pytest.approx(task.cost(model, batch).item(), rel=0.02)
    assert not torch.equal(rough, exact)
    assert torch.nn.functional.cosine_similarity(rough.flatten(), exact.flatten(), dim=0) > 0.999
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_more_words_on_one_side_change_the_vectors_of_the_others(regions: Data) -> None:
    """Both streams of the recurrence reach the other end of the sentence."""
    model = build("alignment", regions[2]).double().eval()
    words = [3, 4, 5, 6]
    first = vectors_of_words(model, words)
    assert not torch.allclose(first[0], vectors_of_words(model, [*words[:-1], 7])[0])
    assert not torch.allclose(first[-1], vectors_of_words(model, [7, *words[1:]])[-1])


def test_fixed_words_get_no_gradient(regions: Data) -> None:
    model = build("devise", regions[2], fixed_words=True).double()
    task_of("devise").cost(model, make_batch(regions)).backward()
    assert model.embedding.weight.grad is None
    assert model.region.weight.grad is not None

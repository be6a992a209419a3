"""Greedy, beam and sampled captions against a slow one-image-at-a-time reference and known distributions."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrnn.evaluate.generation.decode import MARGIN, Caption, Decoder, DecodingConfig, generate
from mrnn.train.models.mrnn import MRNN

Build = Callable[..., MRNN]


@pytest.fixture
def model(build_model: Build) -> MRNN:
    model = build_model(double=True, spread=0.3)
    model.output.bias[0] = 3.0  # END often enough that most captions end
    return model


@pytest.fixture
def features() -> Tensor:
    return torch.randn(9, 12, generator=torch.Generator().manual_seed(3)).double()


def next_log_probs(model: MRNN, feature: Tensor, words: list[int]) -> Tensor:
    """log P(next | words, I) of one image by running the whole network over the words again."""
    state = torch.zeros(model.config.recurrent).double()
    for word in [0, *words]:
        embedded = model.words(torch.tensor(word))
        state = model.recur(embedded, state)
    return model.output(model.fuse(model.combine(embedded, state), model.image(feature))).log_softmax(-1)


def slow_beam(model: MRNN, feature: Tensor, config: DecodingConfig, prefix: list[int]) -> list[tuple[list[int], float]]:
    """Beam search over Python lists: (words, with 0 at the end if complete), log-probability."""
    score = sum(next_log_probs(model, feature, prefix[:i])[word].item() for i, word in enumerate(prefix))
    beams = [(list(prefix), score)]
    for _ in range(config.max_steps - len(prefix)):
        candidates = [beam for beam in beams if 0 in beam[0]]
        for words, score in beams:
            if 0 not in words:
                log_probs = next_log_probs(model, feature, words).tolist()
                if config.suppress_unknown:
                    log_probs[1] = -np.inf
                candidates += [([*words, word], score + value) for word, value in enumerate(log_probs)]
        beams = sorted(candidates, key=lambda beam: -beam[1])[: config.beam]
    return sorted(beams, key=lambda beam: (0 not in beam[0], -beam[1]))


def plain(captions: list[Caption]) -> list[tuple[list[int], float]]:
    return [([*caption.words, *([0] if caption.complete else [])], caption.log_prob) for caption in captions]


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("prefix", [[], [7, 3]])
def test_equals_the_slow_reference(model: MRNN, features: Tensor, beam: int, prefix: list[int]) -> None:
    config = DecodingConfig(beam=beam, max_steps=8)
    lengths = set()
    for feature, found in zip(features, generate(model, features, config, prefix=prefix), strict=True):
        expected = slow_beam(model, feature, config, prefix)
        assert [words for words, _ in plain(found)] == [words for words, _ in expected]
        np.testing.assert_allclose([s for _, s in plain(found)], [s for _, s in expected], rtol=1e-9)
        lengths.add(len(found[0].words))
    assert len(lengths) > 1, "images are done at different steps"


def test_beam_1_is_greedy(model: MRNN, features: Tensor) -> None:
    config = DecodingConfig(beam=1, max_steps=10, suppress_unknown=False)
    for feature, (caption,) in zip(features, generate(model, features, config), strict=True):
        words: list[int] = []
        while len(words) < 10 and 0 not in words:
            words.append(int(next_log_probs(model, feature, words).argmax()))
        assert plain([caption])[0][0] == words


@pytest.mark.parametrize("config", [DecodingConfig(beam=4), DecodingConfig(beam=1, sample=True, temperature=1.5)])
def test_a_caption_does_not_depend_on_its_batch(model: MRNN, features: Tensor, config: DecodingConfig) -> None:
    ids = [f"image {i}" for i in range(9)]
    together = generate(model, features, config, ids=ids)
    for size in (1, 4):
        apart = [
            caption
            for start in range(0, 9, size)
            for caption in generate(model, features[start : start + size], config, ids=ids[start : start + size])
        ]
        assert [[c.words for c in captions] for captions in apart] == [
            [c.words for c in captions] for captions in together
        ]
        np.testing.assert_allclose([c[0].log_prob for c in apart], [c[0].log_prob for c in together], rtol=1e-9)


def test_log_probs_are_the_models_own_and_end_counts(model: MRNN, features: Tensor) -> None:
    for feature, captions in zip(features, generate(model, features, DecodingConfig(beam=3)), strict=True):
        for caption in captions:
            targets = [*caption.words, *([0] if caption.complete else [])]
            expected = [next_log_probs(model, feature, targets[:i])[word].item() for i, word in enumerate(targets)]
            np.testing.assert_allclose(caption.log_probs, expected, rtol=1e-9)


def test_wide_beam_finds_the_most_likely_sentence(build_model: Build, features: Tensor) -> None:
    model = build_model(vocabulary=5, double=True)
    config = DecodingConfig(beam=5, max_steps=2, suppress_unknown=False)
    for feature, captions in zip(features, generate(model, features, config), strict=True):
        first = next_log_probs(model, feature, [])
        pairs = {
            (a, b): (first[a] + next_log_probs(model, feature, [a])[b]).item() for a in range(1, 5) for b in range(5)
        }
        complete = {(): first[0].item(), **{(a,): score for (a, b), score in pairs.items() if b == 0}}
        best = max(captions, key=lambda caption: caption.log_prob)
        assert best.log_prob == pytest.approx(max([*pairs.values(), *complete.values()]))


def test_unknown_is_written_only_on_request(build_model: Build, features: Tensor) -> None:
    model = build_model(double=True)
    model.output.bias[1] = 9.0
    written = generate(model, features, DecodingConfig(beam=2, max_steps=6, suppress_unknown=False))
    assert all(1 in captions[0].words for captions in written)
    for config in (DecodingConfig(beam=2, max_steps=6), DecodingConfig(beam=1, sample=True, max_steps=6)):
        captions = generate(model, features, config, ids=list("abcdefghi"))
        assert not any(1 in caption.words for each in captions for caption in each)


def test_what_does_not_end_is_cut_flagged_and_ranked_last(build_model: Build, features: Tensor) -> None:
    model = build_model(double=True)
    model.output.bias[0] = -50.0
    for captions in generate(model, features, DecodingConfig(beam=3, max_steps=4)):
        assert [(len(caption.words), caption.complete) for caption in captions] == [(4, False)] * 3
    one, other = Caption((5, 6), (-0.1, -0.1), complete=False), Caption((5,), (-3.0, -3.0), complete=True)
    assert sorted([one, other], key=lambda caption: caption.order(length_norm=False))[0] is other


def test_length_norm_prefers_the_better_word_on_average(model: MRNN, features: Tensor) -> None:
    model.output.bias[0] = 1.0  # longer captions
    config = DecodingConfig(beam=8, length_norm=True)
    plain_order = generate(model, features, replace(config, length_norm=False))
    normed = generate(model, features, config)
    changed = 0
    for before, after in zip(plain_order, normed, strict=True):
        assert {caption.words for caption in before} == {caption.words for caption in after}
        means = [caption.log_prob / len(caption.log_probs) for caption in after if caption.complete]
        assert means == sorted(means, reverse=True)
        changed += before[0].words != after[0].words
    assert changed


def test_samples_follow_the_distribution(model: MRNN, features: Tensor) -> None:
    """First words of 4,000 ids under one image: frequencies within four standard errors, at a temperature."""
    count, config = 4000, DecodingConfig(beam=1, sample=True, max_steps=1, temperature=0.7, seed=7)
    ids = [str(i) for i in range(count)]
    captions = generate(model, features[:1].expand(count, -1), config, ids=ids)
    drawn = [caption.words[0] if caption.words else 0 for (caption,) in captions]
    weights = next_log_probs(model, features[0], []) / 0.7
    weights[1] = -torch.inf
    expected = weights.softmax(-1).numpy()
    found = np.bincount(drawn, minlength=40) / count
    common = expected > 0.005
    error = np.sqrt(expected * (1 - expected) / count)
    assert common.sum() >= 3
    assert (np.abs(found - expected) < 4 * error)[common].all()
    assert found[~common].sum() == pytest.approx(expected[~common].sum(), abs=0.01)
    assert generate(model, features[:1].expand(count, -1), config, ids=ids) == captions
    other = generate(model, features[:1].expand(count, -1), replace(config, seed=8), ids=ids)
    assert other != captions


def test_top_k_bounds_the_choice_and_top_1_is_greedy(model: MRNN, features: Tensor) -> None:
    sampled = DecodingConfig(beam=1, sample=True, top_k=1)
    greedy = DecodingConfig(beam=1)
    ids = list("abcdefghi")
    assert [c[0].words for c in generate(model, features, sampled, ids=ids)] == [
        c[0].words for c in generate(model, features, greedy)
    ]


def test_top_p_draws_among_the_fewest_words_that_are_probable_enough(model: MRNN, features: Tensor) -> None:
    weights = next_log_probs(model, features[0], [])
    weights[1] = -torch.inf  # `<unk>` is not drawn
    ids = [str(i) for i in range(600)]
    for top_p, at_temperature in ((0.3, 1.0), (0.8, 1.0), (0.8, 0.5)):
        ranked = (weights / at_temperature).softmax(-1).sort(descending=True)
        enough = int((ranked.values.cumsum(-1) < top_p).sum()) + 1
        config = DecodingConfig(beam=1, sample=True, max_steps=1, top_p=top_p, temperature=at_temperature)
        captions = generate(model, features[:1].expand(600, -1), config, ids=ids)
        drawn = {caption.words[0] if caption.words else 0 for (caption,) in captions}
        assert drawn <= set(ranked.indices[:enough].tolist())
        likely = ranked.indices[:enough][ranked.values[:enough] > 0.02].tolist()
        assert drawn >= set(likely), "each of these is missed by 600 draws once in 180,000 times at most"


def slow_diverse_beam(model: MRNN, feature: Tensor, config: DecodingConfig) -> list[list[int]]:
    """Diverse beam search with n-gram blocking over Python lists: the words of each group, best first within it."""
    width, length = config.beam // config.beam_groups, config.block_ngrams
    groups: list[list[tuple[list[int], float]]] = [[([], 0.0)] for _ in range(config.beam_groups)]
    for _ in range(config.max_steps):
        taken: list[int] = []
        for number, beams in enumerate(groups):
            candidates = [(score, words, score, 0) for words, score in beams if 0 in words]
            for words, score in beams:
                if 0 in words:
                    continue
                seen = {tuple(words[i : i + length]) for i in range(len(words) - length + 1)} if length else set()
                for word, value in enumerate(next_log_probs(model, feature, words).tolist()):
                    if word == 1 or (length and tuple([*words, word][-length:]) in seen):
                        continue
                    loss = config.diversity * taken.count(word) if word else 0
                    candidates.append((score + value - loss, [*words, word], score + value, word))
            best = sorted(candidates, key=lambda candidate: -candidate[0])[:width]
            taken += [word for *_, word in best]
            groups[number] = [(words, score) for _, words, score, _ in best]
    return [words for beams in groups for words, _ in beams]


@pytest.mark.parametrize(
    "config",
    [
        DecodingConfig(beam=4, max_steps=7, block_ngrams=1),
        DecodingConfig(beam=4, max_steps=7, block_ngrams=2),
        DecodingConfig(beam=4, max_steps=7, beam_groups=2, diversity=0.4),
        DecodingConfig(beam=6, max_steps=7, beam_groups=3, diversity=1.5, block_ngrams=2),
        DecodingConfig(beam=3, max_steps=7, beam_groups=3, diversity=0.0),
    ],
)
def test_groups_and_blocked_ngrams_equal_the_slow_reference(
    model: MRNN, features: Tensor, config: DecodingConfig
) -> None:
    for feature, found in zip(features, generate(model, features, config), strict=True):
        expected = slow_diverse_beam(model, feature, config)
        assert sorted(words for words, _ in plain(found)) == sorted(expected)
        for words, score in plain(found):
            own = sum(next_log_probs(model, feature, words[:i])[word].item() for i, word in enumerate(words))
            assert score == pytest.approx(own), "the log-probabilities stay the model's own"


def test_groups_make_captions_differ(model: MRNN, features: Tensor) -> None:
    model.output.bias[0] = -5.0  # END loses nothing
    plain_beam, diverse = DecodingConfig(beam=4), DecodingConfig(beam=4, beam_groups=4, diversity=5.0)
    first = [{caption.words[:1] for caption in captions} for captions in generate(model, features, plain_beam)]
    spread = [{caption.words[:1] for caption in captions} for captions in generate(model, features, diverse)]
    assert sum(map(len, spread)) > sum(map(len, first))


def test_no_ngram_is_written_twice(build_model: Build, features: Tensor) -> None:
    model = build_model(double=True)
    model.output.bias[0] = -50.0
    model.output.bias[5] = 50.0  # the same word again and again
    (free,) = generate(model, features[:1], DecodingConfig(beam=2, max_steps=9))
    assert set(free[0].words) == {5}
    for length in (1, 2, 3):
        config = DecodingConfig(beam=2, max_steps=9, block_ngrams=length)
        for caption in generate(model, features[:1], config)[0]:
            ngrams = [caption.words[i : i + length] for i in range(9 - length + 1)]
            assert len(set(ngrams)) == len(ngrams)
    sampled = DecodingConfig(beam=1, sample=True, max_steps=9, block_ngrams=1)
    ((caption,),) = generate(model, features[:1], sampled, ids=["a"])
    assert len(set(caption.words)) == len(caption.words) == 9


@pytest.mark.parametrize(
    "settings",
    [
        {"beam": 0},
        {"beam": 2, "sample": True},
        {"beam": 5, "beam_groups": 2},
        {"temperature": 0.0},
        {"top_k": -1},
        {"top_p": 1.0},
        {"block_ngrams": -1},
        {"max_steps": 0},
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must|use a beam|groups of equal size"):
        DecodingConfig(**settings)


def test_refusals(model: MRNN, features: Tensor) -> None:
    with pytest.raises(ValueError, match="eval mode"):
        generate(model.train(), features, DecodingConfig())
    model.eval()
    with pytest.raises(ValueError, match="beam of 41"):
        generate(model, features, DecodingConfig(beam=41))
    with pytest.raises(ValueError, match="id of each"):
        generate(model, features, DecodingConfig(beam=1, sample=True))
    assert generate(model, features[:0], DecodingConfig()) == []


@pytest.mark.parametrize("kind", ["mrnn", "transformer"])
@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize("twins", [False, True])
def test_decoder_gives_the_captions_of_float64(build_model: Build, kind: str, beam: int, twins: bool) -> None:
    model = build_model(kind=kind, spread=0.3)
    model.output.bias[0] = 3.0
    if twins:  # pairs of words as near to equal as float32 can hold, or nearer
        model.output.weight[3::2] = model.output.weight[2::2][: len(model.output.weight[3::2])]
        model.output.bias[3::2] = model.output.bias[2::2][: len(model.output.bias[3::2])] + 1e-7
    features = torch.randn(200, 12, generator=torch.Generator().manual_seed(5))
    config, sure = DecodingConfig(beam=beam, max_steps=12), deepcopy(model).double()
    expected = generate(sure, features, config)
    found = Decoder(model)(features, config)
    assert [list(map(spelt, captions)) for captions in found] == [list(map(spelt, captions)) for captions in expected]
    error = max(
        abs(one.log_prob - other.log_prob)
        for captions, others in zip(found, expected, strict=True)
        for one, other in zip(captions, others, strict=True)
    )
    assert error < MARGIN / 10


def spelt(caption: Caption) -> tuple[tuple[int, ...], bool]:
    return caption.words, caption.complete

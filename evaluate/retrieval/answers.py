"""From the scores of a pool to the answers of its queries, joined to the pool's ids and texts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrnn.data.files import write_json_lines
from mrnn.evaluate.pool import Pool
from mrnn.evaluate.retrieval.ranking import Recalls, image_ranks, largest, recalls, sentence_ranks
from mrnn.evaluate.retrieval.result import FoundImage, FoundSentence, ImageAnswer, RetrievalResult, SentenceAnswer
from mrnn.evaluate.retrieval.scores import Scores


@dataclass(frozen=True)
class PoolRanks:
    """Worst and best ranks of all queries of a pool: two (N,) by each criterion of images, two (S,) of sentences."""

    by_image: dict[str, tuple[np.ndarray, np.ndarray]]
    by_sentence: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, scores: Scores) -> "PoolRanks":
        """Once nothing is wanted any more (mrnn.evaluate.retrieval.pruning)."""
        by_image = {name: image_ranks(scores, criterion) for name, criterion in scores.criteria().items()}
        return cls(by_image, sentence_ranks(scores))

    def recalls(self) -> tuple[dict[str, Recalls], dict[str, Recalls]]:
        """With ties against us; and with ties in our favour, where there are ties."""
        every = self.by_image | self.by_sentence
        tied = {name: recalls(best) for name, (worst, best) in every.items() if (best != worst).any()}
        return {name: recalls(worst) for name, (worst, _) in every.items()}, tied


def image_answers(scores: Scores, pool: Pool, ranks: PoolRanks) -> tuple[ImageAnswer, ...]:
    """For each image the ranks and the first sentences by the first criterion, best first.

    P(w) is worked out no further than the order asks for, so a value that depends on it is a bracket.
    """
    first = next(iter(scores.criteria().values()))
    answers = []
    for row, image in enumerate(pool.ids):
        line = slice(row, row + 1)
        (lower,), (upper,) = first.brackets(scores.upper[line], scores.known[line])
        sentences = []
        for number in largest(upper[scores.sentences], scores.top).tolist():
            column = int(scores.sentences[number])
            values = scores.ranking.values(scores, row, column, (float(lower[column]), float(upper[column])))
            found = pool.sentences[number]
            right = bool(scores.owners[number] == row)
            sentences.append(FoundSentence(found.image_id, found.number, found.text, right, values))
        own = {name: (int(worst[row]), int(best[row])) for name, (worst, best) in ranks.by_image.items()}
        answers.append(ImageAnswer(image, own, tuple(sentences)))
    return tuple(answers)


def sentence_answers(scores: Scores, pool: Pool, ranks: PoolRanks) -> tuple[SentenceAnswer, ...]:
    """For each sentence the ranks of its image and the first images by score, best first."""
    answers = []
    for number, sentence in enumerate(pool.sentences):
        column = scores.upper[scores.pool, scores.sentences[number]]
        images = tuple(
            FoundImage(pool.ids[row], bool(row == scores.owners[number]), float(column[row]))
            for row in largest(column, scores.top).tolist()
        )
        own = {name: (int(worst[number]), int(best[number])) for name, (worst, best) in ranks.by_sentence.items()}
        answers.append(SentenceAnswer(sentence.image_id, sentence.number, sentence.text, own, images))
    return tuple(answers)


def write_answers(output: Path, retrieval: RetrievalResult) -> None:
    """retrieved_sentences.jsonl, a line for each image, and retrieved_images.jsonl, a line for each sentence."""
    write_json_lines(output / "retrieved_sentences.jsonl", (answer.to_json() for answer in retrieval.images))
    write_json_lines(output / "retrieved_images.jsonl", (answer.to_json() for answer in retrieval.sentences))

"""Sentences aligned with the regions of pictures that are in no cache."""

from collections.abc import Sequence
from dataclasses import dataclass

from mrnn.evaluate.fit import searchable_words
from mrnn.evaluate.grounding.alignments import Aligned, align_sentences, alignment_model
from mrnn.evaluate.grounding.corrector import Corrector
from mrnn.evaluate.grounding.phrases import candidates_of
from mrnn.evaluate.image_rows import Picture, PictureReader


@dataclass(frozen=True)
class AlignedPictures:
    """What `align_pictures` returns.

    aligned : each sentence with each of the pictures that could be read: all of the first picture, then of the second,
        ...; `image` is the picture's number among them, `image_id` its name.
    unreadable : the names of the other pictures, each with the reason.
    unknown : words that the model does not know, of the sentences that have some.
    """

    aligned: list[Aligned]
    unreadable: list[tuple[str, str]]
    unknown: dict[str, list[str]]


def align_pictures(
    reader: PictureReader,
    pictures: Sequence[Picture],
    sentences: Sequence[str],
    *,
    beta: float,
    corrector: Corrector | None = None,
    strict: bool = False,
) -> AlignedPictures:
    """Align every sentence with the regions of every picture.

    reader : of the pictures, with an alignment model
    pictures : as for `PictureReader.rows`
    sentences : as they are written
    beta, corrector : see `align_sentences`
    strict : whether a picture that cannot be read is an error, and not listed

    Raises EvaluationError for another kind of model, for a sentence of which the model knows no word, and as
    `PictureReader.rows` does; ImageError if it is `strict`.
    """
    trained = reader.trained
    alignment_model(trained)
    unknown = {sentence: words for sentence in sentences if (words := searchable_words(trained, sentence)[1])}
    rows = reader.rows(pictures, strict=strict)
    count = rows.features.shape[1]
    aligned = [
        each
        for number, name in enumerate(rows.names)
        for each in align_sentences(
            trained,
            rows,
            number,
            sentences,
            image_id=name,
            places=candidates_of(rows.places[number * count : (number + 1) * count], 1),
            beta=beta,
            corrector=corrector,
        )
    ]
    return AlignedPictures(aligned, rows.unreadable, unknown)

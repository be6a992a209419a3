"""Variants of m-RNN that tests go through: the settings that they change, for a model of any size."""

from typing import Any

LATE_FUSION: dict[str, dict[str, Any]] = {
    "gru": {"recurrence": "gru", "embedding2": 9},
    "lstm": {"recurrence": "lstm", "embedding2": 9},
    "shared": {"share_words": True},
    "one embedding": {"embedding1": 0},
    "no word path": {"word_path": False},
    "all": {"recurrence": "lstm", "embedding1": 0, "share_words": True, "word_path": False},
}
VARIANTS = {f"mrnn {name}": changes for name, changes in LATE_FUSION.items()} | {
    "mrnn-image-recurrent both": {"image_into": "both"},
    "mrnn-image-recurrent both-shared": {"image_into": "both-shared"},
    "mrnn-image-recurrent lstm": {"recurrence": "lstm", "embedding2": 5, "image_into": "both", "share_words": True},
}
# Models of late fusion: kind and changed settings.
FUSED: list[tuple[str, dict[str, Any]]] = [
    ("mrnn", {}),
    ("transformer", {}),
    *(("mrnn", changes) for changes in LATE_FUSION.values()),
]
FUSED_IDS = ("2014", "transformer", *LATE_FUSION)

"""The model card: README.md of an exported model, in the form that model hubs show (Mitchell et al. 2019)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mrnn.evaluate.metrics import names
from mrnn.train.checkpoint import TrainedModel
from mrnn.train.exported import CONFIG, PROGRAMS, VOCABULARY, WEIGHTS

ORIGIN = ("backbone", "layer", "relu", "weights_sha256", "preprocessing", "regions", "region_features", "dtype")

USE = """\
The folder stands for a run folder of mrnn:

```
caption-images --checkpoint {folder} photo.jpg
evaluate-mrnn --checkpoint {folder} --features feats.h5
```

```python
from mrnn.train.checkpoint import load_trained

trained = load_trained("{folder}")
```
"""

PROGRAM = """
`{start}` and `{step}` run one decoding step without mrnn, for any number of images at a time (`torch.export.load`): the
first takes stored features (n, {size}) float32 and returns the state, the second takes word numbers (n,) int64 and the
state, and returns log-probabilities (n, {words}) and the new state. A sentence begins and ends with word 0.
"""

LICENCE = """\
mrnn is under the MIT licence. That says nothing about these weights: they were learned from the photographs and
captions of {dataset} and from features of a network, which have terms of their own. Look up what these allow before you
pass the weights on.
"""

LIMITS = """\
The model repeats what its training captions say, with their mistakes and prejudices, about photographs like theirs. A
fluent caption can be wrong. Features of another network, or prepared otherwise, give nonsense without a warning unless
they come in a cache of mrnn, which says what they are.
"""


def model_card(trained: TrainedModel, folder: Path, *, programs: bool) -> str:
    """The text of README.md.

    folder : where it will lie; its name stands in the examples
    programs : whether the decoding step is exported as well
    """
    data = str(trained.features.get("dataset", "unknown data"))
    files = {
        WEIGHTS: "weights",
        CONFIG: "sizes, settings and the origin of the features",
        VOCABULARY: "words by number",
    }
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    use = USE.format(folder=folder.name)
    if programs:
        size, words = trained.model.config.features, len(trained.vocabulary)
        use += PROGRAM.format(start=PROGRAMS[0], step=PROGRAMS[1], size=size, words=words)
    sections = {
        f"{trained.name} on {data}": f"A model of mrnn, kind `{trained.name}`, {parameters:,} parameters, "
        f"{len(trained.vocabulary):,} words, checkpoint of step {trained.progress.get('step', 'unknown')}.\n\n"
        + table("file", "content", files.items()),
        "Use": use,
        "Data": table(
            "captions", "value", [("data set", data), ("SHA-256", trained.features.get("annotation_sha256", "unknown"))]
        ),
        "Features": table("setting", "value", [(n, trained.features[n]) for n in ORIGIN if n in trained.features]),
        "Training": table(
            "setting", "value", sorted((n, v) for n, v in trained.settings.items() if v not in ("", None))
        ),
        "Metrics": "\n".join(evaluations(trained.run)) or "No evaluation lay in the run folder.\n",
        "Limits": LIMITS,
        "Licence": LICENCE.format(dataset=data),
    }
    head = "---\nlibrary_name: mrnn\npipeline_tag: image-to-text\n---\n"
    body = "\n".join(f"{'#' if n == 0 else '##'} {title}\n\n{text}" for n, (title, text) in enumerate(sections.items()))
    return f"{head}\n{body}"


def evaluations(run: Path) -> Iterator[str]:
    """A table for each evaluation in a run folder, with intervals where it has them."""
    for file in sorted(run.glob("*/metrics.json")):
        try:
            metrics = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if not isinstance(metrics, dict) or not {"mrnn", "checkpoint", "split"} <= metrics.keys():
            continue
        yield f"{metrics.get('dataset', '')} {metrics['split']}{_conditions(metrics)}:\n"
        yield table("metric", "value", _values(metrics))


def _values(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in names.headline_metrics():
        try:
            value = row.format(names.value_of(metrics, row.key))
        except (KeyError, TypeError, ValueError):
            continue
        interval = metrics.get("intervals", {}).get(row.key)
        yield row.label, value + (f" ({row.format(interval[0])} to {row.format(interval[1])})" if interval else "")


def _conditions(metrics: Mapping[str, Any]) -> str:
    parts = []
    if "decoding" in metrics:
        parts.append(f"captions by beam {metrics['decoding'].get('beam')}")
    if "retrieval" in metrics:
        parts.append(f"retrieval among {names.pool_size(metrics['retrieval'])}")
    return f" ({'; '.join(parts)}; 95 % intervals over images)" if parts else ""


def table(left: str, right: str, rows: Any) -> str:
    """A table in Markdown; bars and line breaks in a value do not end its cell."""
    cells = [(name, " ".join(str(value).replace("|", "\\|").split())) for name, value in rows]
    return "".join(f"| {name} | {value} |\n" for name, value in [(left, right), ("---", "---"), *cells])

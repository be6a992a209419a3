"""The papers' tables for the known data sets, with rows of the evaluated models in them.

The rows are those of the papers' tables, numbered T1 to T15 through the three papers (see PAPERS), and of the work that
they quote. A row that is in two tables is listed once, with the more digits. `*` : not verified against the paper
itself. `?` : as printed, almost certainly a misprint. `-` : not given. BLEU, METEOR and CIDEr are fractions, recalls
are in percent.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mrnn.data.settings import name_features
from mrnn.evaluate.metrics.names import pool_size, to_cite


class Row(NamedTuple):
    """A row of a table.

    method, table, features : who, the table's number, the image features
    values : the numbers in the order of the columns, separated by blanks
    bleu : which definition of BLEU its B-n have
    """

    method: str
    table: str
    features: str
    values: str
    bleu: str = ""


PAPERS = {  # the paper that a table is in: 1 IAPR TC-12, 2 Flickr generation; 3, 4, 5 retrieval on IAPR, 8k, 30k ...
    **dict.fromkeys(("T1", "T2", "T3", "T4", "T5"), "v1"),  # m-RNN v1, arXiv 1410.1090
    **dict.fromkeys(("T6", "T7", "T8", "T9", "T11"), "ICLR"),  # m-RNN, arXiv 1412.6632; 11: the COCO server
    **dict.fromkeys(("T13", "T14", "T15"), "DVSA"),  # arXiv 1412.2306: Table 1, supplement's Table 5, Table 2
}
CUMULATIVE, INDIVIDUAL, UNKNOWN = "cumulative", "individual", "not known"
GENERATION_COLUMNS = ("PPL", "B-1", "B-2", "B-3", "B-4", "METEOR", "CIDEr")
RETRIEVAL_COLUMNS = ("R@1", "R@5", "R@10", "med r", "R@1", "R@5", "R@10", "med r")

GENERATION: Mapping[str, Sequence[Row]] = {
    "flickr8k": (
        Row("RNN-Base (m-RNN v1)", "T2", "none", "30.39* 0.4383* 0.1849* 0.1339* - - -", INDIVIDUAL),
        Row("m-RNN v1", "T2", "AlexNet fc7", "24.39* 0.5778* 0.2751* 0.2307* - - -", INDIVIDUAL),
        Row("m-RNN ICLR", "T6", "AlexNet fc7", "24.39* 0.565* 0.386* 0.256* 0.170* - -", CUMULATIVE),
        Row("Google NIC", "T15", "-", "- 0.63 0.41 0.27 - - -", CUMULATIVE),
        Row("Chen & Zitnick", "T15", "-", "- - - - 0.141 - -", CUMULATIVE),
        Row("DVSA", "T15", "VGG-16 fc7", "- 0.579 0.383 0.245 0.160 - -", CUMULATIVE),
    ),
    "flickr30k": (
        Row("RNN-Base (m-RNN v1)", "T2", "none", "43.96* 0.4333* 0.1659* 0.1160* - - -", INDIVIDUAL),
        Row("m-RNN v1", "T2", "AlexNet fc7", "35.11* 0.5479* 0.2392* 0.1952* - - -", INDIVIDUAL),
        Row("DeepVS, first version", "T7", "AlexNet", "- 0.47* 0.21* 0.09* - - -", CUMULATIVE),
        Row("DeepVS, first version", "T7", "VGG-16", "21.20* 0.50* 0.30* 0.15* - - -", CUMULATIVE),
        Row("m-RNN ICLR", "T7", "AlexNet fc7", "35.11* 0.54* 0.36* 0.23* 0.15* - -", CUMULATIVE),
        Row("m-RNN ICLR", "T7", "VGG-16 fc7", "20.72* 0.60* 0.41* 0.28* 0.19* - -", CUMULATIVE),
        Row("Google NIC", "T15", "-", "- 0.663 0.423 0.277 0.183 - -", CUMULATIVE),
        Row("LRCN", "T15", "-", "- 0.588 0.391 0.251 0.165 - -", CUMULATIVE),
        Row("Chen & Zitnick", "T15", "-", "- - - - 0.126 - -", CUMULATIVE),
        Row("DVSA", "T15", "VGG-16 fc7", "- 0.573 0.369 0.240 0.157 - -", CUMULATIVE),
    ),
    "iaprtc12": (
        Row("Back-off GT2", "T1", "none", "54.5 0.323 0.145 0.059 - - -", CUMULATIVE),
        Row("Back-off GT3", "T1", "none", "55.6 0.312 0.131 0.059 - - -", CUMULATIVE),
        Row("LBL", "T1", "none", "20.1 0.327 0.144 0.068 - - -", CUMULATIVE),
        Row("MLBL-B", "T1", "DeCAF", "24.7 0.373 0.187 0.098 - - -", CUMULATIVE),
        Row("MLBL-F", "T1", "DeCAF", "21.8 0.361 0.176 0.092 - - -", CUMULATIVE),
        Row("Gupta et al.", "T1", "-", "- 0.15 0.06 0.01 - - -", UNKNOWN),
        Row("Gupta & Mannem", "T1", "-", "- 0.33 0.18 0.07 - - -", UNKNOWN),
        Row("RNN-Base (m-RNN v1)", "T1", "none", "7.77 0.3134* 0.1168* 0.0803* - - -", INDIVIDUAL),
        Row("m-RNN v1", "T1", "AlexNet fc7", "6.92 0.3951 0.1828* 0.1311* - - -", INDIVIDUAL),
        Row("RNN-Base (m-RNN ICLR)", "T6", "none", "7.77 0.307* 0.177* 0.096* 0.043* - -", CUMULATIVE),
        Row("m-RNN ICLR", "T6", "AlexNet fc7", "6.92 0.482* 0.357* 0.269* 0.208* - -", CUMULATIVE),
    ),
    "coco": (
        Row("DeepVS, first version", "T7", "AlexNet", "- 0.53* 0.28* 0.15* - - -", CUMULATIVE),
        Row("DeepVS, first version", "T7", "VGG-16", "19.64* 0.57* 0.37* 0.19* - - -", CUMULATIVE),
        Row("m-RNN ICLR", "T7", "VGG-16 fc7", "13.60* 0.67* 0.49* 0.35* 0.25* - -", CUMULATIVE),
        Row("m-RNN greedy, server c5", "T11", "VGG", "- 0.668* 0.490* 0.342* 0.239* 0.221* 0.729*", CUMULATIVE),
        Row("m-RNN beam, server c5", "T11", "VGG", "- 0.680* 0.506* 0.369* 0.272* 0.225* 0.791*", CUMULATIVE),
        Row("Nearest neighbour", "T15", "VGG-16 fc7", "- 0.480 0.281 0.166 0.100 0.157 0.383", CUMULATIVE),
        Row("Google NIC", "T15", "-", "- 0.666 0.461 0.329 0.246 - -", CUMULATIVE),
        Row("LRCN", "T15", "-", "- 0.628 0.442 0.304 - - -", CUMULATIVE),
        Row("MS Research (Fang)", "T15", "-", "- - - - 0.211 0.207 -", CUMULATIVE),
        Row("Chen & Zitnick", "T15", "-", "- - - - 0.190 0.204 -", CUMULATIVE),
        Row("DVSA", "T15", "VGG-16 fc7", "- 0.625 0.450 0.321 0.230 0.195 0.660", CUMULATIVE),
    ),
}

RETRIEVAL: Mapping[str, Sequence[Row]] = {
    "flickr8k": (
        Row("Random", "T4", "none", "0.1* 0.5* 1.0* 635* 0.1* 0.5* 1.0* 537*"),
        Row("SDT-RNN", "T4", "DeCAF", "4.5* 18.0* 28.6* 32* 6.1* 18.5* 29.0* 29*"),
        Row("Socher, average", "T4", "R-CNN", "6.0* 22.7* 34.0* 23* 6.6* 21.6* 31.7* 25*"),
        Row("DeViSE, average", "T4", "R-CNN", "4.8* 16.5* 27.3* 28* 5.9* 20.1* 29.6* 29*"),
        Row("DeFrag", "T4", "DeCAF", "5.9* 19.2* 27.3* 34* 5.2* 17.6* 26.5* 32*"),
        Row("DeFrag", "T4", "R-CNN", "12.6* 32.9* 44.0* 14* 9.7* 29.6* 42.5* 15*"),
        Row("m-RNN v1", "T4", "AlexNet fc7", "14.5 37.2 48.5 11 11.5 31.0 42.4 15"),
        Row("Kiros et al.", "T14", "-", "13.5* 36.2* 45.7* 13* 10.4* 31.0* 43.7* 14*"),
        Row("DeFrag, done again (DVSA)", "T14", "-", "13.8* 35.8* 48.2* 10.4* 9.5* 28.2* 40.3* 15.6*"),
        Row("DVSA, DepTree edges", "T14", "R-CNN", "14.8 37.9 50.0 9.4 11.6 31.4 43.8 13.2"),
        Row("DVSA, BRNN", "T14", "R-CNN", "16.5 40.6 54.2 7.6 11.8 32.1 44.7 12.4"),
    ),
    "flickr30k": (
        Row("Random", "T5", "none", "0.1* 0.6* 1.1* 631* 0.1* 0.5* 1.0* 500*"),
        Row("DeViSE, average", "T5", "R-CNN", "4.8* 16.5* 27.3* 28* 5.9* 20.1* 29.6* 29*"),
        Row("DeFrag", "T5", "fine-tuned R-CNN", "16.4* 40.2* 54.7* 8* 10.3* 31.4* 44.5* 13*"),
        Row("m-RNN v1", "T5", "AlexNet fc7", "18.4 40.2 50.9 10 12.6 31.2 41.5 16"),
        Row("RVR (Chen & Zitnick)", "T8", "-", "12.1 27.8 47.8 11 12.7 33.1 44.9 12.5"),
        Row("MNLM (Kiros et al.)", "T8", "AlexNet", "14.8 39.2 50.9 10 11.8 34.0 46.3 13"),
        Row("MNLM (Kiros et al.)", "T8", "VGG", "23.0 50.7 62.9 5 16.8 42.0 56.5 8"),
        Row("NIC", "T8", "-", "17.0 - 56.0 7 17.0 - 57.0 7"),
        Row("LRCN", "T8", "-", "14.0* 34.9* 47.0* 11* - - - -"),
        Row("m-RNN ICLR", "T8", "VGG-16 fc7", "35.4 63.8 73.7 3 22.8 50.7 63.1 5"),
        Row("SDT-RNN", "T13", "-", "9.6 29.8 41.1 16 8.9 29.8 41.1 16"),
        Row("Donahue et al.", "T13", "-", "17.5* 40.3* 50.8* 9* - - - -"),
        Row("DeFrag", "T13", "-", "14.2 37.7 51.3 10 10.2 30.8 44.2 14"),
        Row("DeFrag, done again (DVSA)", "T13", "-", "19.2 44.5 58.0 6.0 12.9 35.4 47.5 10.8"),
        Row("DVSA, DepTree edges", "T13", "R-CNN", "20.0 46.6 59.4 5.4 15.0 36.5 48.2 10.4"),
        Row("DVSA, BRNN", "T13", "R-CNN", "22.2 48.2 61.4 4.8 15.2 37.7 50.5 9.2"),
        Row("Vinyals et al.", "T13", "stronger CNN", "23 - 63 5 17 - 57 8"),
    ),
    "iaprtc12": (Row("m-RNN v1", "T3", "AlexNet fc7", "20.9 43.8 54.4 8 13.2 31.2 40.8 21"),),
    "coco": (
        Row("DeepVS, first version, 1K", "T9", "R-CNN", "29.4* 62.0* 75.9* 2.5* 20.9* 52.8* 69.2* 4*"),
        Row("m-RNN ICLR, 1K", "T9", "VGG-16 fc7", "41.0 73.0 83.5 2 29.0 42.2? 77.0 3"),
        Row("DVSA, 1K", "T13", "R-CNN", "38.4 69.9 80.5 1.0 27.4 60.2 74.8 3.0"),
        Row("DVSA, 5K", "T13", "R-CNN", "16.5 39.2 52.0 9.0 10.7 29.6 42.2 14.0"),
    ),
}

SPLITS = {
    "flickr8k": "6,000 train, 1,000 val, 1,000 test images",
    "flickr30k": "m-RNN 29,783 / 1,000 / 1,000 images, DVSA 29,000 / 1,014 / 1,000",
    "iaprtc12": "17,665 train, 1,962 test images, none for validation",
    "coco": "m-RNN 82,783 train, of val2014 4,000 val and 1,000 test; DVSA 113,287 / 5,000 / 5,000",
}
DVSA_WORDS = {"flickr8k": "2,538", "flickr30k": "7,414", "coco": "8,791"}


def papers_data_set(dataset: str, root: Path) -> str | None:
    """The name of the tables for a cache's data set; `karpathy` files are known by their folder's name (coco, ...)."""
    names = [root.name.lower()] if dataset == "karpathy" else [dataset]
    return next((known for known in GENERATION for name in names if name.startswith(known)), None)


def papers_table(
    runs: Sequence[Mapping[str, Any]], dataset: str, *, baselines: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """The papers' rows of a data set, those of the runs (two for the two definitions of BLEU), and what differs.

    runs : the content of metrics.json of each, at least one, all of one split of the data set
    dataset : a key of GENERATION
    baselines : `baselines` of baselines.json, of which those with a perplexity get a row too

    Returns '' where neither perplexity nor captions nor retrieval were measured.
    """
    whose = "this run" if len(runs) == 1 else "these runs"
    names = [f"{'this run, ' if len(runs) == 1 else ''}{metrics['checkpoint']['model']}" for metrics in runs]
    ours = [
        Row(f"> {name}", "", "none", _cumulative(found, found), CUMULATIVE)
        for name, found in (baselines or {}).items()
        if "perplexity" in found
    ]
    for name, metrics in zip(names, runs, strict=True):
        ours += _our_generation(name, metrics)
    lines = []
    if ours:
        lines += _table([*GENERATION[dataset], *ours], GENERATION_COLUMNS, bleu=True)
    ranked = [metrics for metrics in runs if "retrieval" in metrics]
    if ranked:
        ours = [_our_retrieval("this run" if len(runs) == 1 else m["checkpoint"]["model"], m) for m in ranked]
        lines += ["", *_table([*RETRIEVAL[dataset], *ours], RETRIEVAL_COLUMNS)]
    if not lines:
        return ""
    title = [
        f"{dataset} in the papers, and {whose} (>). v1 and ICLR: m-RNN, arXiv 1410.1090, 1412.6632; DVSA: 1412.2306",
        "(with rows that they quote). * not verified, ? as printed, probably a misprint, - not given or not measured",
    ]
    return "\n".join([*title, "", *lines, "", *_differences(runs, dataset, whose)])


def _cumulative(metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """Perplexity and the scores in the order of GENERATION_COLUMNS."""
    perplexity = f"{metrics['perplexity']:.2f}" if "perplexity" in metrics else "-"
    keys = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", *GENERATION_COLUMNS[5:])
    return " ".join([perplexity, *(f"{scores[key]:.3f}" if key in scores else "-" for key in keys)])


def _our_generation(name: str, metrics: Mapping[str, Any]) -> list[Row]:
    name, features = f"> {name}", name_features(metrics["features"])
    if "Bleu_1" not in metrics:
        return [Row(name, "", features, _cumulative(metrics, {}))] if "perplexity" in metrics else []
    cumulative = _cumulative(metrics, to_cite(metrics, metrics["generation"]))
    individual = [f"{value:.4f}" for value in metrics["generation"]["ngram_precision"]]
    return [
        Row(name, "", features, cumulative, CUMULATIVE),
        Row(name, "", features, " ".join([cumulative.split()[0], *individual, "-", "-"]), INDIVIDUAL),
    ]


def _our_retrieval(name: str, metrics: Mapping[str, Any]) -> Row:
    retrieval = metrics["retrieval"]
    columns = ("R@1", "R@5", "R@10", "median_rank")  # what the papers report
    directions = ("image_to_sentence", "sentence_to_image")
    numbers = [f"{retrieval[direction][column]:.1f}" for direction in directions for column in columns]
    return Row(f"> {name}, {pool_size(retrieval)}", "", name_features(metrics["features"]), " ".join(numbers))


def _table(rows: Sequence[Row], columns: Sequence[str], *, bleu: bool = False) -> list[str]:
    method = max(len(row.method) for row in rows) + 2
    features = max(len(row.features) for row in rows) + 2
    lines = [f"{'':<{method}}{'in':<6}{'features':<{features}}{_cells(columns)}{'  BLEU' if bleu else ''}"]
    if not bleu:
        lines.insert(0, " " * (method + 6 + features) + f"{'image to sentence':^32}{'sentence to image':^32}")
    for row in rows:
        paper = PAPERS.get(row.table, "")
        lines.append(
            f"{row.method:<{method}}{paper:<6}{row.features:<{features}}{_cells(row.values.split())}  {row.bleu}"
        )
    return [line.rstrip() for line in lines]


def _cells(values: Sequence[str]) -> str:
    """Right-aligned, with the marks in a column of their own so that digits line up."""
    return "".join(f"{value if value[-1] in '*?' else value + ' ':>8}" for value in values)


def _differences(runs: Sequence[Mapping[str, Any]], dataset: str, whose: str) -> list[str]:
    first = runs[0]
    used = dict.fromkeys(
        f"{name_features(metrics['features'])}, weights {Path(str(metrics['features'].get('weights', '?'))).name}"
        for metrics in runs
    )
    images = f"{first['split']}, {first['counts']['images']:,} images"
    words = ", ".join(dict.fromkeys(f"{metrics['vocabulary_size']:,}" for metrics in runs))
    dvsa = f"; DVSA: {DVSA_WORDS[dataset]} words seen at least 5 times" if dataset in DVSA_WORDS else ""
    captioned = [metrics["generation"] for metrics in runs if "brevity_penalty" in metrics.get("generation", {})]
    lines = [
        "What differs:",
        f"  features    {whose}: {'; '.join(used)}; the papers': see the column",
        f"  split       {whose}: {images}; papers: {SPLITS[dataset]}",
        f"  vocabulary  {whose}: {words} with END and <unk>; m-RNN: not established{dvsa}",
        f"  perplexity  {whose}: END and <unk> counted; what the papers count, and their tokeniser, is not established",
    ]
    if captioned:
        tokens = "coco-caption's PTB tokens" if all(found.get("ptb") for found in captioned) else "plain words"
        penalties = ", ".join(f"{found['brevity_penalty']:.3f}" for found in captioned)
        lines.append(f"  tokens      {whose}: cumulative BLEU and CIDEr on {tokens}, individual BLEU on plain words")
        lines.append(
            "  BLEU        compare rows of one definition; individual: n-gram precision without the brevity penalty "
            f"({penalties})"
        )
    return lines

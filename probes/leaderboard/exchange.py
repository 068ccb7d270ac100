"""Results in the layouts of other tools: evaluma's long CSV and GEO-Bench-2's submission folder.

evaluma (0.1 to 0.3, `load_csv` and its README): `model, dataset, metric, score` and a seed column
that is named with `--seed seed`; one metric a (model, dataset) cell. A cell here is a benchmark
with a protocol, as scores by two protocols are not one.

GEO-Bench-2 (the leaderboard's `utils/constants.py` and `utils/input_validation.py`): a folder
with `results_and_parameters.csv` and `additional_info.json`, frozen and fully fine-tuned models
apart. Its own check also wants five seeds of every model and all datasets of one of its groups.

Neither has a place for a warning, so scores in doubt are left out.
"""

import json
from collections.abc import Mapping
from typing import Any

from probes.leaderboard import metrics
from probes.leaderboard.board import Board
from probes.leaderboard.export import write_csv
from probes.leaderboard.records import Record
from probes.leaderboard.table import BASELINES, Group, Row

EVALUMA = ("model", "dataset", "metric", "score", "seed")
_EVALUMA_METRICS = {"oa": "accuracy"}

GEOBENCH2 = (
    "dataset", "Metric", "test metric", "Seed", "experiment_name", "batch_size", "lr", "decoder",
    "backbone", "early_stop_patience", "n_trials", "data_percentages", "batch_size_selection",
    "weight_decay", "partition name", "frozen_or_full_ft",
)  # fmt: skip
_GEOBENCH2_METRICS = {
    ("oa", "class"): "Overall_Accuracy",
    ("f1", "multilabel"): "Multilabel_F1_Score",
    ("miou", "segmentation"): "Multiclass_Jaccard_Index",
}


def evaluma(board: Board) -> str:
    """Write the primary metric of every result of a model, floors included."""
    rows = []
    for group in board.groups:
        # a floor of pixels alone is in every cell of its benchmark, as it is in every table
        for row in group.rows:
            if row.record.doubts:
                continue
            metric = _EVALUMA_METRICS.get(group.primary, group.primary)
            rows.append((row.label, group.title, metric, row.value, row.record.seed))
    return write_csv(EVALUMA, rows)


def _setting(record: Record, *names: str) -> Any:
    """A value that was chosen on val, or set by the protocol; None when it has none."""
    chosen = record.selection.chosen if record.selection is not None else None
    settings: Mapping[str, Any] = record.protocol.settings
    sources = [chosen] if isinstance(chosen, Mapping) else []
    for source in (*sources, settings):
        for name in names:
            value = source.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
    return None


def _full(record: Record) -> bool:
    """Whether all weights were trained."""
    return "finetune" in (record.protocol.settings.get("family"), record.protocol.name)


def _geobench2_row(group: Group, row: Row) -> list[Any]:
    record = row.record
    metric = _GEOBENCH2_METRICS.get((record.primary, record.benchmark.task), record.primary)
    few = record.protocol.settings.get("per_class")
    return [
        record.benchmark.name,
        metric,
        row.value,
        record.seed,
        row.label,
        _setting(record, "batch_size"),
        _setting(record, "lr", "learning_rate"),
        record.protocol.name,
        row.label,
        None,
        len(record.selection.grid) if record.selection is not None else 1,
        None if few else 100,
        "fixed",
        _setting(record, "weight_decay"),
        f"{few} a class" if few else "100%",
        "full_ft" if _full(record) else "frozen",
    ]


def _info(rows: list[tuple[Group, Row]]) -> dict[str, Any]:
    models = {row.label: row.record.model for _, row in rows}
    trials = {len(r.record.selection.grid) for _, r in rows if r.record.selection is not None}
    versions = {str(r.record.environment.get("eofm", "unknown")) for _, r in rows}
    return {
        "Paper Link": "N/A",
        # the space at the end is part of the key that its check looks for
        "Code Repository Link ": "N/A",
        "License": "N/A",
        "Number of HPO trials": " or ".join(map(str, sorted(trials))) or "1",
        "Additional information about submission": "Judged by eofm "
        + ", ".join(sorted(versions))
        + "; the column decoder names the protocol.",
        "Comments on new models in submission": "N/A",
        "New model info": [
            {
                "model_display_name": label,
                "model_size": _size(model.parameters),
                "unique_backbone_key": label,
            }
            for label, model in sorted(models.items())
        ],
    }


def _size(parameters: int | None) -> str:
    return "N/A" if parameters is None else metrics.compact(parameters).replace("\u00a0", "")


def geobench2(board: Board) -> dict[str, str]:
    """Write the submission folders, one for frozen and one for fully fine-tuned models.

    Returns:
        path in `geobench2/` to content; only folders that have rows.
    """
    files = {}
    for full, name in ((False, "frozen"), (True, "full_ft")):
        rows = [
            (group, row)
            for group, row in board.rows
            if row.record.model.kind not in BASELINES
            and _full(row.record) == full
            and not row.record.doubts
        ]
        if rows:
            body = [_geobench2_row(group, row) for group, row in rows]
            files[f"{name}/results_and_parameters.csv"] = write_csv(GEOBENCH2, body)
            info = json.dumps(_info(rows), indent=2, ensure_ascii=False)
            files[f"{name}/additional_info.json"] = info + "\n"
    return files

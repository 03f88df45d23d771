"""The table that papers print: one row a method and protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studykit.metrics.measure import features, load
from studykit.metrics.perceptual import frechet_distance, unavailable
from studykit.study.file import Study

if TYPE_CHECKING:
    import pandas as pd

# The papers' columns and the metrics behind them. Identity is compared with the true frame's where
# papers do so, which is in reconstruction.
_COLUMNS = {
    "L1": "l1",
    "PSNR": "psnr",
    "SSIM": "ssim",
    "MS-SSIM": "ms_ssim",
    "LPIPS": "lpips",
    "FID": "fid",
    "AKD": "akd",
    "AED": "aed",
}


def paper_table(study: Study, out: str | Path) -> "pd.DataFrame":
    """Return the metrics in the papers' form.

    One row a protocol and method, in that order. ``clips`` were measured, ``with truth`` of them
    have true frames and enter L1 to AKD. AED is that to the true frame for the same identity, that
    to the source else. Means over clips; FID over all their frames together. What can't be had is
    a text: "weights not present", "package not present", "no truth", "not measured".

    Returns
    -------
    DataFrame
        Columns: protocol, method, clips, with truth, L1, PSNR, SSIM, MS-SSIM, LPIPS, FID, AKD, AED.
    """
    import pandas as pd

    table = load(out)
    values = table.set_index(["metric", "cell"])["value"].to_dict()
    measured = set(table["cell"])
    rows = []
    for protocol in ("same-identity", "cross-identity"):
        for method in study.methods:
            cells = [
                cell.name
                for cell in study.cells(method.name)
                if cell.protocol == protocol and cell.name in measured
            ]
            if not cells:
                continue
            true = [name for name in cells if ("l1", name) in values]
            row = {
                "protocol": protocol,
                "method": method.name,
                "clips": len(cells),
                "with truth": len(true),
            }
            for label, metric in _COLUMNS.items():
                if metric == "aed" and protocol == "same-identity":
                    metric = "aed_truth"
                row[label] = _entry(metric, cells, true, values, Path(out))
            rows.append(row)
    columns = ["protocol", "method", "clips", "with truth", *_COLUMNS]
    return pd.DataFrame(rows, columns=columns)


def _entry(
    metric: str,
    cells: list[str],
    true: list[str],
    values: dict[tuple[str, str], float],
    out: Path,
) -> float | str:
    if metric in (lacking := unavailable()):
        return lacking[metric].partition(":")[0]
    if metric != "aed" and not true:
        return "no truth"
    if metric == "fid":
        pairs = [pair for name in true if (pair := features(out, name)) is not None]
        if not pairs:
            return "not measured"
        return frechet_distance(*(np.concatenate(each) for each in zip(*pairs, strict=True)))
    known = [values[metric, name] for name in cells if (metric, name) in values]
    return float(np.mean(known)) if known else "not measured"

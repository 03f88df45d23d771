"""The table that papers print: one row a method and protocol."""

from pathlib import Path

import numpy as np
import pandas as pd

from studykit.metrics.measure import features, load
from studykit.metrics.perceptual import frechet_distance, unavailable
from studykit.study.file import Study

# The papers' columns and the metrics behind them.
_COLUMNS = {
    "L1": "l1",
    "PSNR": "psnr",
    "SSIM": "ssim",
    "MS-SSIM": "ms_ssim",
    "LPIPS": "lpips",
    "FID": "fid",
    "AKD": "akd",
    "AED": "aed_truth",
}


def paper_table(study: Study, out: str | Path) -> pd.DataFrame:
    """Return the metrics in the papers' form.

    One row a protocol and method, in that order. ``clips`` were measured, ``with truth`` of them
    have true frames and enter the metrics, all of which compare with them, AED as well. Means over
    clips; FID over all their frames together. What can't be had is a text: "weights not present",
    "package not present", "no truth", "not measured".

    Returns
    -------
    DataFrame
        Columns: protocol, method, clips, with truth, L1, PSNR, SSIM, MS-SSIM, LPIPS, FID, AKD, AED.
    """
    values = load(out).pivot(index="cell", columns="metric", values="value")
    values = values.reindex(columns=[*_COLUMNS.values()])
    rows = []
    for protocol in ("same-identity", "cross-identity"):
        for method in study.methods:
            cells = [cell for cell in study.cells(method.name) if cell.protocol == protocol]
            here = values.loc[[cell.name for cell in cells if cell.name in values.index]]
            if here.empty:
                continue
            true = here["l1"].notna()
            about = (protocol, method.name, len(here), int(true.sum()))
            rows.append((*about, *(_entry(m, here[m], true, Path(out)) for m in _COLUMNS.values())))
    columns = ["protocol", "method", "clips", "with truth", *_COLUMNS]
    return pd.DataFrame(rows, columns=columns)


def _entry(metric: str, values: pd.Series, true: pd.Series, out: Path) -> float | str:
    """Return a metric's mean over clips, by its values and whether true frames are known."""
    if metric in (lacking := unavailable()):
        return lacking[metric].partition(":")[0]
    if not true.any():
        return "no truth"
    if metric == "fid":
        pairs = [pair for name in values.index[true] if (pair := features(out, name)) is not None]
        if not pairs:
            return "not measured"
        return frechet_distance(*(np.concatenate(each) for each in zip(*pairs, strict=True)))
    known = values.dropna().to_numpy()
    return float(known.mean()) if len(known) else "not measured"

"""README's picture: one driving of the embedded study, and the clips that it makes of five sources.

``python docs/film_strip.py`` draws it anew: two portraits that matplotlib and scikit-image bring
along, moved by ``warp``, and three rendered sources, moved by ``fomm``.
"""

from pathlib import Path

import numpy as np
from matplotlib.cbook import get_sample_data

from studykit.media.sheets import Strip, draw_strips
from studykit.media.squares import open_driving, open_source
from studykit.methods import create_method

INPUTS = Path(__file__).parent.parent / "inputs"
DRIVING = INPUTS / "drivings/frontal/frontal-driving-1.mp4"
KINDS = ("frontal", "side", "stylised")
SIZE, SECONDS = 256, (0.0, 0.32, 0.64, 0.88, 1.12, 1.36)


def main() -> None:
    """Animate the five sources and draw them."""
    hopper = get_sample_data("grace_hopper.jpg", asfileobj=False)
    portraits = [INPUTS / "sources/frontal/astronaut.png", Path(hopper)]
    rows = [("warp", "photograph", path) for path in portraits]
    rows += [("fomm", kind, INPUTS / f"sources/{kind}/{kind}-1.png") for kind in KINDS]
    driving, _ = open_driving(DRIVING, name=DRIVING.stem, size=SIZE, crop="face")
    moments = np.rint(np.multiply(SECONDS, float(driving.frame_rate))).astype(int)
    frames = np.stack(list(driving))
    strips = [Strip(("driving", DRIVING.stem, "frontal"), [None, *frames[moments]])]
    for name, kind, path in rows:
        method = create_method(name)
        source, _ = open_source(path, name=path.stem, size=SIZE, crop="face")
        clip = list(method.animate(method.prepare(source), driving))
        strips.append(Strip((name, path.stem, kind), [source.image, *(clip[m] for m in moments)]))
    picture = draw_strips(strips, ["source", *(f"{second:.2f} s" for second in SECONDS)])
    picture.convert("RGB").save(Path(__file__).with_name("film-strip.jpg"), quality=85)


if __name__ == "__main__":
    main()

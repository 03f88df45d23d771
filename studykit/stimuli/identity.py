"""Who is rendered: the parameters of one face, and how to draw one at random."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Look = Literal["photo", "drawn"]

HAIR_STYLES = (
    "bald",
    "buzz",
    "short",
    "side-part",
    "quiff",
    "receding",
    "bob",
    "long",
    "wavy",
    "curly",
    "afro",
    "bun",
    "ponytail",
)
GLASSES = ("none", "round", "square", "browline", "thin")
BEARDS = ("none", "stubble", "moustache", "goatee", "short", "full")
CLOTHES = ("crew", "v-neck", "shirt", "turtleneck", "jacket")

Colour = tuple[float, float, float]

# Skin from the lightest to the darkest human tones, sRGB.
_SKIN = np.array(
    [
        (250, 221, 203),
        (241, 203, 178),
        (228, 180, 148),
        (206, 152, 116),
        (172, 118, 83),
        (128, 83, 56),
        (92, 59, 40),
        (68, 44, 31),
    ]
)
_HAIR = {
    "black": (28, 24, 24),
    "dark brown": (52, 35, 26),
    "brown": (88, 58, 38),
    "light brown": (128, 90, 58),
    "auburn": (112, 50, 28),
    "red": (160, 78, 36),
    "blond": (196, 154, 96),
    "platinum": (222, 200, 160),
    "grey": (140, 136, 132),
    "white": (214, 210, 206),
}
_EYES = {
    "dark brown": (70, 40, 22),
    "brown": (104, 64, 34),
    "hazel": (122, 98, 52),
    "green": (92, 122, 82),
    "blue": (88, 130, 172),
    "grey": (120, 136, 146),
}
_DRAWN_SKIN = (
    (255, 219, 190),
    (240, 190, 150),
    (205, 145, 105),
    (150, 95, 65),
    (100, 64, 46),
    (126, 190, 240),
    (150, 220, 150),
    (205, 170, 240),
    (250, 170, 190),
    (245, 220, 120),
    (120, 215, 205),
)
_DRAWN_HAIR = (
    (40, 36, 48),
    (92, 56, 38),
    (170, 96, 50),
    (240, 205, 110),
    (215, 70, 60),
    (70, 110, 210),
    (150, 80, 190),
    (60, 170, 120),
    (245, 130, 170),
    (235, 235, 240),
)
_CLOTHES = (
    (42, 54, 84),
    (120, 42, 46),
    (58, 88, 72),
    (212, 206, 194),
    (60, 62, 68),
    (92, 120, 156),
    (176, 138, 88),
    (128, 108, 138),
    (226, 228, 230),
    (34, 36, 42),
    (178, 96, 70),
    (96, 128, 122),
)
_BACKGROUNDS = (
    (164, 176, 184),
    (96, 110, 122),
    (186, 172, 152),
    (120, 138, 120),
    (150, 128, 118),
    (84, 92, 110),
    (206, 202, 196),
    (128, 148, 166),
)
_DRAWN_BACKGROUNDS = (
    (250, 214, 160),
    (166, 216, 226),
    (220, 196, 236),
    (190, 224, 176),
    (248, 190, 180),
    (176, 190, 232),
    (242, 232, 200),
    (140, 190, 190),
)


@dataclass(frozen=True)
class Identity:
    """One face: shape, colouring, hair, what it wears, its light and its background.

    Shape parameters are deviations from the average face, about -1 to 1. Colours are sRGB, 0 to 1.

    Attributes
    ----------
    seed : int
        What textures, strands and the background are drawn from.
    look : {"photo", "drawn"}
        Soft light and skin, or flat fills with outlines.
    masculinity : float
        -1 to 1: heavier brow, jaw and neck, or softer ones.
    head_width, head_height, jaw_width, chin_length, chin_width, cheekbones, cheek_fullness
        Shape of the head, each -1 to 1.
    nose_width, nose_length, nose_bridge, nose_tip
        Shape of the nose, each -1 to 1; a positive tip is turned up.
    eye_size, eye_spacing, eye_tilt, eye_depth, lid_fold
        Shape and setting of the eyes, each -1 to 1; a positive lid fold is heavier.
    lip_fullness, mouth_width, brow_height, brow_thickness, ear_size
        Each -1 to 1.
    skin_tone : float
        0 (lightest) to 1 (darkest); unused by a drawn face, which has ``skin_colour``.
    undertone : float
        -1 (cool, rosy) to 1 (warm, golden).
    skin_colour, hair_colour, eye_colour, clothes_colour, background_colour : (float, float, float)
        sRGB, 0 to 1. ``skin_colour`` follows from tone and undertone in the photo look.
    hair_style, glasses, beard, clothes : str
        One of HAIR_STYLES, GLASSES, BEARDS, CLOTHES.
    parting : float
        -1 to 1: where the hair parts, and how full it falls.
    age : float
        0 (young adult) to 1 (old): lines, folds and spots.
    freckles, makeup : float
        0 to 1.
    light : float
        Direction of the key light, degrees to the image's right (negative: left).
    """

    seed: int
    look: Look
    masculinity: float
    head_width: float
    head_height: float
    jaw_width: float
    chin_length: float
    chin_width: float
    cheekbones: float
    cheek_fullness: float
    nose_width: float
    nose_length: float
    nose_bridge: float
    nose_tip: float
    eye_size: float
    eye_spacing: float
    eye_tilt: float
    eye_depth: float
    lid_fold: float
    lip_fullness: float
    mouth_width: float
    brow_height: float
    brow_thickness: float
    ear_size: float
    skin_tone: float
    undertone: float
    skin_colour: Colour
    hair_style: str
    hair_colour: Colour
    parting: float
    eye_colour: Colour
    glasses: str
    beard: str
    age: float
    freckles: float
    makeup: float
    clothes: str
    clothes_colour: Colour
    background_colour: Colour
    light: float

    @classmethod
    def random(cls, seed: int, look: Look = "photo") -> "Identity":
        """Draw a face; the same seed and look give the same face.

        Parameters
        ----------
        seed : int
            Any whole number >= 0.
        look : {"photo", "drawn"}
            Drawn faces also have non-human skin and hair colours.
        """
        rng = np.random.default_rng([seed, 1 if look == "drawn" else 0])

        def around(mean: float = 0.0, spread: float = 0.45) -> float:
            return float(np.clip(rng.normal(mean, spread), -1.0, 1.0))

        feminine = rng.random() < 0.5
        masculinity = float(np.clip(rng.normal(-0.65 if feminine else 0.6, 0.22), -1, 1))
        shape = {
            "masculinity": masculinity,
            "head_width": around(),
            "head_height": around(),
            "jaw_width": around(0.25 * masculinity),
            "chin_length": around(0.15 * masculinity),
            "chin_width": around(0.3 * masculinity),
            "cheekbones": around(),
            "cheek_fullness": around(),
            "nose_width": around(),
            "nose_length": around(),
            "nose_bridge": around(),
            "nose_tip": around(-0.1 * masculinity),
            "eye_size": around(-0.15 * masculinity),
            "eye_spacing": around(),
            "eye_tilt": around(-0.15 * masculinity),
            "eye_depth": around(0.2 * masculinity),
            "lid_fold": around(),
            "lip_fullness": around(-0.25 * masculinity),
            "mouth_width": around(),
            "brow_height": around(-0.35 * masculinity, 0.35),
            "brow_thickness": around(0.35 * masculinity, 0.35),
            "ear_size": around(0.15 * masculinity),
        }
        tone = float(rng.random())
        undertone = around()
        age = float(np.clip(rng.beta(1.3, 2.0), 0, 1))
        if look == "drawn":
            skin = _unit(_pick(rng, _DRAWN_SKIN))
            hair = _unit(_pick(rng, _DRAWN_HAIR))
            eyes = _unit(_pick(rng, tuple(_EYES.values()) + _DRAWN_HAIR[3:9]))
            backdrop = _unit(_pick(rng, _DRAWN_BACKGROUNDS))
            clothes_colour = _unit(_pick(rng, _DRAWN_HAIR + _DRAWN_BACKGROUNDS))
            age *= 0.5
        else:
            skin = skin_colour(tone, undertone)
            hair, eyes = _natural_colouring(rng, tone, age)
            backdrop = _unit(_pick(rng, _BACKGROUNDS))
            clothes_colour = _unit(_pick(rng, _CLOTHES))
        if feminine:
            weights = {
                "bob": 3,
                "long": 4,
                "wavy": 4,
                "curly": 2,
                "afro": 1,
                "bun": 2,
                "ponytail": 2,
                "short": 1,
            }
            weights["side-part"] = 1
        else:
            weights = {
                "bald": 1.2,
                "buzz": 2,
                "short": 4,
                "quiff": 2.5,
                "curly": 1.5,
                "afro": 0.7,
                "long": 0.5,
            }
            weights |= {"side-part": 3, "receding": 0.4 + 3 * age}
        styles = list(weights)
        chance = np.array([weights[s] for s in styles], float)
        style = styles[rng.choice(len(styles), p=chance / chance.sum())]
        beard = "none"
        if not feminine and rng.random() < 0.55:
            beard = BEARDS[1 + rng.choice(5, p=[0.35, 0.12, 0.13, 0.22, 0.18])]
        glasses = GLASSES[1 + rng.integers(4)] if rng.random() < 0.27 else "none"
        freckled = tone < 0.55 and rng.random() < 0.3
        return cls(
            seed=int(seed),
            look=look,
            **shape,
            skin_tone=tone,
            undertone=undertone,
            skin_colour=skin,
            hair_style=style,
            hair_colour=hair,
            parting=float(rng.uniform(-1, 1)),
            eye_colour=eyes,
            glasses=glasses,
            beard=beard,
            age=age,
            freckles=float(rng.uniform(0.3, 1.0)) if freckled else 0.0,
            makeup=float(rng.random()) if feminine else 0.0,
            clothes=CLOTHES[rng.integers(len(CLOTHES))],
            clothes_colour=clothes_colour,
            background_colour=backdrop,
            light=float(rng.choice([-1, 1]) * rng.uniform(20, 50)),
        )


def skin_colour(tone: float, undertone: float) -> Colour:
    """Give skin's sRGB colour for a tone (0 light, 1 dark) and undertone (-1 rosy, 1 golden)."""
    place = tone * (len(_SKIN) - 1)
    rgb = np.array([np.interp(place, range(len(_SKIN)), _SKIN[:, c]) for c in range(3)]) / 255
    rgb = rgb * (1 + 0.045 * undertone * np.array([0.0, 0.6, -1.6]))
    return tuple(float(c) for c in np.clip(rgb, 0, 1))


def _natural_colouring(rng: np.random.Generator, tone: float, age: float) -> tuple[Colour, Colour]:
    names = list(_HAIR)
    dark = np.array([6, 4, 1.2, 0.15, 0.1, 0.0, 0.05, 0.0, 0, 0])
    light = np.array([0.8, 2, 3, 3, 1, 1.2, 3, 1.2, 0, 0])
    mix = np.clip(1.6 - 2.6 * tone, 0, 1)
    chance = dark * (1 - mix) + light * mix
    chance[-2:] = chance.sum() * max(age - 0.4, 0) * np.array([1.6, 0.9])
    hair = np.array(_HAIR[names[rng.choice(len(names), p=chance / chance.sum())]]) / 255
    hair = np.clip(hair * rng.uniform(0.85, 1.15), 0, 1)
    chance = np.array([5, 3, 0.4, 0.15, 0.1, 0.1]) * (1 - mix)
    chance = chance + np.array([0.5, 2, 1.5, 1.5, 3, 1]) * mix
    eyes = _unit(list(_EYES.values())[rng.choice(len(_EYES), p=chance / chance.sum())])
    return tuple(float(c) for c in hair), eyes


def _pick(rng: np.random.Generator, options: tuple) -> tuple:
    return options[rng.integers(len(options))]


def _unit(rgb: tuple) -> Colour:
    return tuple(float(c) / 255 for c in rgb)

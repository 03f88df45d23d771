"""Who is rendered: the parameters of one face, and how to draw one at random."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Look = Literal["photo", "drawn"]

HAIR_STYLES = (
    *("bald", "buzz", "short", "side-part", "quiff", "receding"),
    *("bob", "long", "wavy", "curly", "afro", "bun", "ponytail"),
)
GLASSES = ("none", "round", "square", "browline", "thin")
BEARDS = ("none", "stubble", "moustache", "goatee", "short", "full")
CLOTHES = ("crew", "v-neck", "shirt", "turtleneck", "jacket")

Colour = tuple[float, float, float]


def _palette(colours: str) -> np.ndarray:
    """Return sRGB colours, (n, 3) from 0 to 255, from their notation as #rrggbb."""
    return np.array([tuple(bytes.fromhex(colour[1:])) for colour in colours.split()])


# Skin from the lightest to the darkest human tones.
_SKIN = _palette("#faddcb #f1cbb2 #e4b494 #ce9874 #ac7653 #805338 #5c3b28 #442c1f")
# Black, dark brown, brown, light brown, auburn, red, blond, platinum, grey, white.
_HAIR = _palette("#1c1818 #34231a #583a26 #805a3a #70321c #a04e24 #c49a60 #dec8a0 #8c8884 #d6d2ce")
# Dark brown, brown, hazel, green, blue, grey.
_EYES = _palette("#462816 #684022 #7a6234 #5c7a52 #5882ac #788892")
_DRAWN_SKIN = _palette(
    "#ffdbbe #f0be96 #cd9169 #965f41 #64402e #7ebef0 #96dc96 #cdaaf0 #faaabe #f5dc78 #78d7cd"
)
_DRAWN_HAIR = _palette(
    "#282430 #5c3826 #aa6032 #f0cd6e #d7463c #466ed2 #9650be #3caa78 #f582aa #ebebf0"
)
_CLOTHES = _palette(
    "#2a3654 #782a2e #3a5848 #d4cec2 #3c3e44 #5c789c #b08a58 #806c8a #e2e4e6 #22242a #b26046 "
    "#60807a"
)
_BACKGROUNDS = _palette("#a4b0b8 #606e7a #baac98 #788a78 #968076 #545c6e #cecac4 #8094a6")
_DRAWN_BACKGROUNDS = _palette("#fad6a0 #a6d8e2 #dcc4ec #bee0b0 #f8beb4 #b0bee8 #f2e8c8 #8cbebe")

# The parameters of shape, and how far masculinity moves its mean.
_SHAPE = {
    "head_width": 0, "head_height": 0, "jaw_width": 0.25, "chin_length": 0.15, "chin_width": 0.3,
    "cheekbones": 0, "cheek_fullness": 0, "nose_width": 0, "nose_length": 0, "nose_bridge": 0,
    "nose_tip": -0.1, "eye_size": -0.15, "eye_spacing": 0, "eye_tilt": -0.15, "eye_depth": 0.2,
    "lid_fold": 0, "lip_fullness": -0.25, "mouth_width": 0, "brow_height": -0.35,
    "brow_thickness": 0.35, "ear_size": 0.15,
}  # fmt: skip
# How often hair is worn in a style, relative to the others.
_FEMININE_HAIR = {"bob": 3, "long": 4, "wavy": 4, "curly": 2, "afro": 1, "bun": 2, "ponytail": 2,
                  "short": 1, "side-part": 1}  # fmt: skip
_MASCULINE_HAIR = {"bald": 1.2, "buzz": 2, "short": 4, "quiff": 2.5, "curly": 1.5, "afro": 0.7,
                   "long": 0.5, "side-part": 3}  # fmt: skip


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

        def around(mean: float, spread: float) -> float:
            return float(np.clip(rng.normal(mean, spread), -1.0, 1.0))

        feminine = rng.random() < 0.5
        masculinity = float(np.clip(rng.normal(-0.65 if feminine else 0.6, 0.22), -1, 1))
        shape = {
            name: around(share * masculinity, 0.35 if name.startswith("brow") else 0.45)
            for name, share in _SHAPE.items()
        }
        tone = float(rng.random())
        undertone = around(0, 0.45)
        age = float(np.clip(rng.beta(1.3, 2.0), 0, 1))
        if look == "drawn":
            skin, hair = rng.choice(_DRAWN_SKIN) / 255, rng.choice(_DRAWN_HAIR) / 255
            eyes = rng.choice(np.vstack([_EYES, _DRAWN_HAIR[3:9]])) / 255
            backdrop = rng.choice(_DRAWN_BACKGROUNDS) / 255
            clothes_colour = rng.choice(np.vstack([_DRAWN_HAIR, _DRAWN_BACKGROUNDS])) / 255
            age *= 0.5
        else:
            skin = skin_colour(tone, undertone)
            hair, eyes = _natural_colouring(rng, tone, age)
            backdrop, clothes_colour = rng.choice(_BACKGROUNDS) / 255, rng.choice(_CLOTHES) / 255
        often = _FEMININE_HAIR if feminine else {**_MASCULINE_HAIR, "receding": 0.4 + 3 * age}
        chance = np.array(list(often.values()))
        style = list(often)[rng.choice(len(often), p=chance / chance.sum())]
        beard = "none"
        if not feminine and rng.random() < 0.55:
            beard = BEARDS[1 + rng.choice(5, p=[0.35, 0.12, 0.13, 0.22, 0.18])]
        glasses = GLASSES[1 + rng.integers(4)] if rng.random() < 0.27 else "none"
        freckled = tone < 0.55 and rng.random() < 0.3
        return cls(
            seed=int(seed),
            look=look,
            masculinity=masculinity,
            **shape,
            skin_tone=tone,
            undertone=undertone,
            skin_colour=_colour(skin),
            hair_style=style,
            hair_colour=_colour(hair),
            parting=float(rng.uniform(-1, 1)),
            eye_colour=_colour(eyes),
            glasses=glasses,
            beard=beard,
            age=age,
            freckles=float(rng.uniform(0.3, 1.0)) if freckled else 0.0,
            makeup=float(rng.random()) if feminine else 0.0,
            clothes=CLOTHES[rng.integers(len(CLOTHES))],
            clothes_colour=_colour(clothes_colour),
            background_colour=_colour(backdrop),
            light=float(rng.choice([-1, 1]) * rng.uniform(20, 50)),
        )


def skin_colour(tone: float, undertone: float) -> np.ndarray:
    """Give skin's sRGB colour for a tone (0 light, 1 dark) and undertone (-1 rosy, 1 golden)."""
    place = tone * (len(_SKIN) - 1)
    rgb = np.array([np.interp(place, range(len(_SKIN)), _SKIN[:, c]) for c in range(3)]) / 255
    return np.clip(rgb * (1 + 0.045 * undertone * np.array([0.0, 0.6, -1.6])), 0, 1)


def _natural_colouring(
    rng: np.random.Generator, tone: float, age: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the colours of hair and eyes, which go with the skin's."""
    dark = np.array([6, 4, 1.2, 0.15, 0.1, 0.0, 0.05, 0.0, 0, 0])
    light = np.array([0.8, 2, 3, 3, 1, 1.2, 3, 1.2, 0, 0])
    mix = np.clip(1.6 - 2.6 * tone, 0, 1)
    chance = dark * (1 - mix) + light * mix
    chance[-2:] = chance.sum() * max(age - 0.4, 0) * np.array([1.6, 0.9])
    hair = rng.choice(_HAIR, p=chance / chance.sum()) / 255
    hair = np.clip(hair * rng.uniform(0.85, 1.15), 0, 1)
    chance = np.array([5, 3, 0.4, 0.15, 0.1, 0.1]) * (1 - mix)
    chance = chance + np.array([0.5, 2, 1.5, 1.5, 3, 1]) * mix
    return hair, rng.choice(_EYES, p=chance / chance.sum()) / 255


def _colour(rgb: np.ndarray) -> Colour:
    return tuple(rgb.tolist())

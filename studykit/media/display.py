"""Decoded frames as they are shown: upright, with square pixels, whole and in SDR."""

import functools
import math
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

# swscale's bicubic | accurate_rnd | bitexact | full_chr_h_inp | full_chr_h_int: its fast default
# darkens a frame by a grey level on the way through YUV, and differs between processors.
SCALING = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000

# Code points of ITU-T H.273.
_PQ, _HLG = 16, 18
_BT709, _UNSPECIFIED, _BT601 = 1, 2, 5

# From wide primaries (BT.2020; P3 with D65) to those of BT.709, in linear light (BT.2087).
_TO_BT709 = {
    9: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349),
        (-0.018151, -0.100579, 1.118730)),
    12: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
}  # fmt: skip

_WHITE = 203.0  # the luminance of HDR's reference white, which becomes SDR's (BT.2408)
_NOMINAL_PEAK = 1000.0  # of HLG (BT.2100), and of PQ where the file does not say
_SDR_GAMMA = 2.4  # BT.1886
_GRID = 49


@dataclass
class Display:
    """How the frames of one video are shown, decided by its first.

    Attributes
    ----------
    width, height : int
        Of the frames with square pixels, before they are turned.
    notes : dict
        What was done that a reader of the results should know; the keys are the texts.
    """

    width: int
    height: int
    transpose: bool
    mirror: bool
    flip: bool
    aspect: Fraction
    transfer: int
    primaries: int
    size: tuple[int, int]
    notes: dict[str, None] = field(default_factory=dict)
    _graph: Any = None
    _format: tuple[Any, ...] = ()

    @classmethod
    def of(cls, frame: Any, stream: Any) -> "Display":
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        a, b, c, d = _display_matrix(frame)
        transpose = abs(b) > abs(a)
        display = cls(
            width=max(round(frame.width * aspect), 1),
            height=frame.height,
            transpose=transpose,
            mirror=(c if transpose else a) < 0,
            flip=(b if transpose else d) < 0,
            aspect=aspect,
            # Frames say it themselves from PyAV 17 on.
            transfer=int(stream.codec_context.color_trc),
            primaries=int(stream.codec_context.color_primaries),
            size=(frame.width, frame.height),
        )
        if frame.interlaced_frame:
            display.notes["interlaced: deinterlaced by FFmpeg's bwdif"] = None
        if display.transfer in (_PQ, _HLG):
            kind = "PQ" if display.transfer == _PQ else "HLG"
            display.notes[f"HDR ({kind}): tone-mapped to SDR (BT.2390)"] = None
        return display

    @property
    def shown_size(self) -> tuple[int, int]:
        return (self.height, self.width) if self.transpose else (self.width, self.height)

    def progressive(self, frame: Any | None) -> Iterator[Any]:
        """Yield as many frames as came in, without combs; None at the end brings the last."""
        kind = frame and (frame.width, frame.height, frame.format.name)
        if self._graph is not None and kind != self._format:
            self._graph.push(None)
            yield from _pulled(self._graph)
            self._graph = None
        if frame is None:
            return
        if self._graph is None and not frame.interlaced_frame:
            yield frame
            return
        if self._graph is None:
            self._graph, self._format = _deinterlacer(frame), kind
        self._graph.push(frame)
        yield from _pulled(self._graph)

    def rgb(self, frame: Any) -> np.ndarray:
        """Return a frame as it is shown: (H, W, 3) uint8."""
        if (frame.width, frame.height) == self.size:
            image = self._scaled(frame, self.width, self.height)
        else:
            image = self._fitted(frame)
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.mirror:
            image = image[:, ::-1]
        if self.flip:
            image = image[::-1]
        return np.ascontiguousarray(image)

    def _fitted(self, frame: Any) -> np.ndarray:
        """Scale a frame of another size into the first one's, with black beside it."""
        self.notes["its frames change their size: they are fitted into the first one's"] = None
        wide = frame.width * self.aspect
        scale = min(self.width / wide, Fraction(self.height, frame.height))
        width, height = max(round(wide * scale), 1), max(round(frame.height * scale), 1)
        left, top = (self.width - width) // 2, (self.height - height) // 2
        image = np.zeros((self.height, self.width, 3), np.uint8)
        image[top : top + height, left : left + width] = self._scaled(frame, width, height)
        return image

    def _scaled(self, frame: Any, width: int, height: int) -> np.ndarray:
        has_alpha = any(component.is_alpha for component in frame.format.components)
        # An HD video that names no matrix is BT.709's, as players take it; a smaller one BT.601's.
        unnamed = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
        given = {
            "width": width,
            "height": height,
            "interpolation": SCALING,
            "src_colorspace": unnamed if frame.colorspace == _UNSPECIFIED else frame.colorspace,
            # PyAV before 17 ignores the source's unless the target's differs.
            "dst_colorspace": "ITU601",
            "src_color_range": frame.color_range,
        }
        mapped = self.transfer in (_PQ, _HLG) or self.primaries in _TO_BT709
        if mapped and not has_alpha:
            peak = _peak(frame, self.transfer)
            graph = _tone_mapper(self.transfer, self.primaries, peak, width, height)
            graph.push(frame.reformat(format="rgb48le", **given))
            return graph.pull().to_ndarray(format="rgb24")
        image = frame.to_ndarray(format="rgba" if has_alpha else "rgb24", **given)
        return over_white(Image.fromarray(image)) if has_alpha else image


def over_white(rgba: Any) -> np.ndarray:
    """Composite a Pillow image with transparency over white: (H, W, 3) uint8."""
    white = Image.new("RGBA", rgba.size, "white")
    return np.array(Image.alpha_composite(white, rgba).convert("RGB"))


def to_sdr(signal: np.ndarray, transfer: int, primaries: int, peak: float) -> np.ndarray:
    """Turn HDR or wide-gamut R'G'B' into that of SDR with BT.709's primaries.

    HLG and PQ become display light (BT.2100), whose reference white of 203 cd/m2 becomes SDR's
    white (BT.2408); what is brighter than about 90 cd/m2 is compressed by the EETF of BT.2390,
    on the largest of a pixel's three components, so that hues stay. SDR is BT.1886's.

    Parameters
    ----------
    signal : (..., 3) float
        0 to 1.
    transfer, primaries : int
        Code points of ITU-T H.273.
    peak : float
        The luminance of the brightest pixel, in cd/m2.

    Returns
    -------
    (..., 3) float64
        0 to 1.
    """
    signal = np.asarray(signal, np.float64)
    if transfer == _PQ:
        light = _pq_eotf(signal)
    elif transfer == _HLG:
        light = _hlg_eotf(signal)
    else:
        light, peak = _WHITE * signal**_SDR_GAMMA, _WHITE
    if primaries in _TO_BT709:
        light = np.maximum(light @ np.array(_TO_BT709[primaries]).T, 0)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light = light * (_eetf(brightest, peak) / brightest)
    return np.clip(light / _WHITE, 0, 1) ** (1 / _SDR_GAMMA)


def _peak(frame: Any, transfer: int) -> float:
    """Return how bright the brightest pixel is, which a PQ file may say (CTA-861.3's MaxCLL)."""
    if transfer == _HLG:
        return _NOMINAL_PEAK
    light = _side_data(frame, "CONTENT_LIGHT_LEVEL")
    level = struct.unpack("=I", bytes(light)[:4])[0] if light is not None else 0
    return float(level) if _WHITE < level <= 10_000 else _NOMINAL_PEAK


@functools.lru_cache(maxsize=2)
def _tone_mapper(transfer: int, primaries: int, peak: float, width: int, height: int) -> Any:
    """Return a filter graph that maps frames of rgb48 through a table of three dimensions."""
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width, height=height, format=av.VideoFormat("rgb48le"), time_base=Fraction(1, 1000)
    )
    # lut3d reads its table from a file alone.
    handle, path = tempfile.mkstemp(suffix=".cube", prefix="studykit-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_cube(transfer, primaries, peak))
        table = graph.add("lut3d", file=path, interp="tetrahedral")
        source.link_to(table)
        table.link_to(graph.add("buffersink"))
        graph.configure()
    finally:
        os.unlink(path)
    return graph


@functools.lru_cache(maxsize=2)
def _cube(transfer: int, primaries: int, peak: float) -> str:
    # swscale makes 255 * 256 of YUV's white, not 65,535.
    axis = np.minimum(np.linspace(0, 65_535 / 65_280, _GRID), 1)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red runs fastest
    table = to_sdr(np.stack([red, green, blue], axis=-1), transfer, primaries, peak)
    rows = "%.6f %.6f %.6f\n" * _GRID**3 % tuple(table.ravel())
    return f"LUT_3D_SIZE {_GRID}\n{rows}"


def _deinterlacer(frame: Any) -> Any:
    import av.filter

    graph = av.filter.Graph()
    # A time base stands for its times, which the frames keep.
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    filtered = graph.add("bwdif", mode="send_frame", deint="interlaced")
    source.link_to(filtered)
    filtered.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(graph: Any) -> Iterator[Any]:
    import av

    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, EOFError):
            return


def _side_data(frame: Any, kind: str) -> Any:
    try:
        return frame.side_data.get(kind)
    except ValueError:  # PyAV 15 to 18 refuse all side data of a frame with a kind they don't name
        return None


def _display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """Return a, b, c, d of a frame's display matrix: x' = a x + c y and y' = b x + d y."""
    matrix = _side_data(frame, "DISPLAYMATRIX")
    if matrix is None:  # there is none, or it is refused: PyAV knows the angle all the same
        angle = math.radians(-frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    a, b, _, c, d, _, _, _, _ = struct.unpack("=9i", bytes(matrix)[:36])
    return a, b, c, d


def _pq_eotf(signal: np.ndarray) -> np.ndarray:
    """Return the light of a PQ signal in cd/m2 (BT.2100, table 4; SMPTE ST 2084)."""
    power = signal ** (1 / _PQ_M2)
    ratio = np.maximum(power - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * power)
    return 10_000 * ratio ** (1 / _PQ_M1)


def _pq_inverse(light: np.ndarray) -> np.ndarray:
    power = (np.maximum(light, 0) / 10_000) ** _PQ_M1
    return ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2


_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _hlg_eotf(signal: np.ndarray) -> np.ndarray:
    """Return the light of an HLG signal on a display of 1000 cd/m2 (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _NOMINAL_PEAK * scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2


def _eetf(light: np.ndarray, peak: float) -> np.ndarray:
    """Compress light up to ``peak`` into that up to SDR's white (BT.2390, section 5.4.1)."""
    if peak <= _WHITE:
        return light
    top = _pq_inverse(np.float64(peak))
    signal = np.minimum(_pq_inverse(light) / top, 1)
    most = _pq_inverse(np.float64(_WHITE)) / top
    knee = 1.5 * most - 0.5
    t = np.maximum((signal - knee) / (1 - knee), 0)
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * most
    )
    return _pq_eotf(np.where(signal < knee, signal, curve) * top)

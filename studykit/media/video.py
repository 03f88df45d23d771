"""Images and videos in and out: RGB frames as a stream, so that no video has to fit in memory.

What can't be read whole is refused, because a clip that was cut short silently would be measured
and rated as if it were the method's doing.
"""

import bisect
import contextlib
import itertools
import math
import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from studykit import files
from studykit.errors import MediaError, first_line

# Ticks a second of a clip whose frame rate is variable.
_TICKS = 90_000
# Containers round times, to milliseconds at the coarsest; so do people.
_SLACK = 0.0006

# Codecs whose packets browsers accept inside an mp4; any other sound is encoded again, as AAC.
_MP4_SOUND = ("aac", "mp3", "mp3float")
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

# The boxes that make up an mp4 or mov at its top level (ISO/IEC 14496-12; QuickTime).
_BOXES = (
    *(b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"ssix", b"meta", b"uuid"),
    *(b"emsg", b"prft", b"pdin", b"free", b"skip", b"wide", b"pnot", b"udta"),
)

# swscale's bicubic | accurate_rnd | bitexact | full_chr_h_inp | full_chr_h_int: its fast default
# darkens a frame by a grey level on the way through YUV, and differs between processors.
_SCALING = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000


# x264 follows how blocks are used again (its macroblock tree) in runs of 8 blocks of 16 pixels. Its
# code for AVX-512 reads on behind a row that is no multiple of them, into whatever lies in memory:
# the same frames then give other bytes each time.
_TREE_PIXELS = 8 * 16


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds.

    Attributes
    ----------
    width, height : int
        Size of the frames as they are shown and as :func:`read_frames` yields them: upright,
        square pixels.
    frame_rate : Fraction
        Frames a second; the average where it is variable.
    frame_count : int
        How many frames :func:`read_frames` yields.
    duration : float
        Seconds from the first frame's start to the last frame's end.
    has_audio : bool
        Whether there is sound.
    variable : bool
        Whether the time between frames varies by more than a tenth of its mean.
    """

    width: int
    height: int
    frame_rate: Fraction
    frame_count: int
    duration: float
    has_audio: bool
    variable: bool


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as it is shown.

    PNG, JPEG, WebP and whatever else Pillow opens. EXIF rotation is applied, transparency is
    composited over white, 16-bit grey is scaled to 8 bits, and grey, palette and CMYK become RGB.
    Of an animated image the first frame is taken.

    Returns
    -------
    (H, W, 3) uint8
        RGB.

    Raises
    ------
    MediaError
        The file is missing, a folder, empty, no image, cut short, or larger than Pillow's limit
        of some 89 million pixels.
    """
    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except MediaError as error:
        raise MediaError(f"{path} {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = Image.MAX_IMAGE_PIXELS // 10**6
        raise MediaError(f"{path} has more than {limit} million pixels: scale it down") from None
    except UnidentifiedImageError:
        raise MediaError(
            f"{path} is not an image that can be read: save it as PNG, JPEG or WebP"
        ) from None
    except Exception as error:  # Pillow's plugins raise whatever the damaged bytes led them to
        raise MediaError(
            f"{path} is damaged or cut short ({first_line(error)}): copy or export it again"
        ) from error


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image as PNG, JPEG or WebP, by the suffix; the file appears when it is whole.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.

    Raises
    ------
    MediaError
        Another suffix, or a file that can't be written.
    """
    path = Path(path)
    _check_frame(image)
    options = {
        ".png": {},
        ".jpg": {"quality": 95, "subsampling": 0},
        ".jpeg": {"quality": 95, "subsampling": 0},
        ".webp": {"quality": 95},
    }.get(path.suffix.lower())
    if options is None:
        raise MediaError(f'{path}: no image format "{path.suffix}": end it in .png, .jpg or .webp')
    with _replaced_when_whole(path) as part:
        try:
            Image.fromarray(image).save(part, **options)
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from error


def probe(path: str | Path) -> VideoInfo:
    """Look a video through, decoding no more than its first frame.

    Raises
    ------
    MediaError
        The file is missing, a folder, empty, no video, has no video stream, or is cut short.
    """
    path = Path(path)
    times = _shown_times(path)
    count = len(times)
    with _opened(path) as container:
        stream = _video_stream(container, path)
        frame = _first_frame(container, stream)
        _check_whole(path, container, stream, count if frame else 0, count)
        steps = [later - time for time, later in itertools.pairwise(times)]
        rate = _frame_rate(stream, count, times[-1] - times[0])
        width, height = _Display.of(frame, stream).shown_size
        # Containers round times to their ticks: a difference of one says nothing.
        tolerance = max(_fraction(stream.time_base), 1 / rate / 10)
        return VideoInfo(
            width=width,
            height=height,
            frame_rate=rate,
            frame_count=count,
            duration=float(count / rate),
            has_audio=_sound_stream(container) is not None,
            variable=max(steps, default=0) - min(steps, default=0) > tolerance,
        )


def frames_between(path: str | Path, start: float, end: float | None) -> range:
    """Return which frames of a video are shown from ``start`` on and before ``end``.

    In seconds since its first frame, by each frame's own time where the rate varies.
    """
    times = _shown_times(Path(path))
    since = [float(time - times[0]) + _SLACK for time in times]
    return range(
        bisect.bisect_left(since, start),
        len(since) if end is None else bisect.bisect_left(since, end),
    )


def read_frames(path: str | Path, first: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Yield a video's frames, one at a time and every one once, as they are shown.

    Rotation flags and non-square pixels are applied; transparency is composited over white.

    Parameters
    ----------
    first, stop : int
        Yield the frames from ``first`` on, and none from ``stop`` on; what lies behind is not
        read.

    Yields
    ------
    (H, W, 3) uint8
        RGB; all of one size.

    Raises
    ------
    MediaError
        As :func:`probe`; a video that is damaged or cut short raises after the last frame that
        can be read, with how many of how many these are.
    """
    path = Path(path)
    with _opened(path) as container:
        stream = _video_stream(container, path)
        decoder = _decoder(stream)
        display = None
        count = expected = 0
        damaged = False
        for packet in _packets(container, stream, path):
            expected += _is_shown(packet)
            try:
                frames = [] if damaged else decoder.decode(packet)
            except _av_error():
                # What follows is demuxed only, to count how many frames there should be.
                damaged = True
                continue
            for frame in frames:
                if count == stop:
                    return
                display = display or _Display.of(frame, stream)
                if count >= first:
                    yield display.rgb(frame)
                count += 1
        _check_whole(path, container, stream, count, expected)


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    *,
    frame_rate: Fraction,
    like: str | Path | None = None,
    like_from: int = 0,
    crf: int = 18,
) -> int:
    """Write frames as an H.264 mp4 that browsers play; the file appears when it is whole.

    8-bit 4:2:0 in BT.709, with the index in front; an odd width or height is made even by
    repeating the last column or row. One thread encodes, and without x264's macroblock tree where
    the width is no multiple of 128, so that the same frames give the same bytes each time and on
    any number of cores.

    Parameters
    ----------
    frames : iterable of (H, W, 3) uint8
        RGB, all of one size.
    frame_rate : Fraction
        Frames a second.
    like : path, optional
        The driving video: its sound is carried over, cut to the frames' length, and where its
        frame rate is variable each frame keeps its time.
    like_from : int
        Which frame of ``like`` the first one shows.
    crf : int
        x264's constant rate factor, 0 (lossless) to 51.

    Returns
    -------
    int
        How many frames were written.

    Raises
    ------
    MediaError
        There are no frames, the file can't be written, or ``like`` can't be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise MediaError(f'{path}: no video format "{path.suffix}" is written: end it in .mp4')
    frame_rate = Fraction(frame_rate).limit_denominator(1001)
    info = probe(like) if like is not None else None
    sounds, varies = (info.has_audio, info.variable) if info is not None else (False, False)
    shown = _shown_times(Path(like))[like_from:] if sounds or varies else []
    tick = Fraction(1, _TICKS) if varies else 1 / frame_rate
    times = _frame_times(frame_rate, shown if varies else ())
    count = 0
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(_mp4(path))
        images = iter(frames)
        first = next(images, None)
        if first is None:
            raise MediaError(f"{path}: there are no frames to write")
        video = _h264_stream(output, frame_rate, crf, first)
        video.codec_context.time_base = tick
        sound: Iterator[tuple[Fraction, Any]] = iter(())
        if sounds:
            sound = stack.enter_context(_carried_sound(Path(like), output, shown[0]))
        waiting = next(sound, None)
        pairs = zip(itertools.chain([first], images), itertools.pairwise(times), strict=False)
        for image, (time, end) in pairs:
            if image.shape != first.shape:
                raise ValueError(f"frame {count} is {image.shape}, the first is {first.shape}")
            while waiting is not None and waiting[0] < end:  # sound keeps in step, and ends
                with _writable(path):
                    output.mux(waiting[1])
                waiting = next(sound, None)
            frame = _yuv_frame(image)
            frame.time_base = tick
            frame.pts = round(time / tick)
            with _writable(path):
                output.mux(video.encode(frame))
            count += 1
        with _writable(path):
            output.mux(video.encode(None))
    return count


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder: name a file in it")
        size = path.stat().st_size
        path.open("rb").close()
    except FileNotFoundError:
        raise MediaError(f"no file {path}: check its path") from None
    except OSError as error:
        raise MediaError(f"{path} can't be read: {error.strerror}: check its rights") from None
    if not size:
        raise MediaError(f"{path} is empty (0 bytes): copy or export it again")


def _check_frame(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"(H, W, 3) uint8 is expected, not {image.shape} {image.dtype}")


def _to_rgb(image: Any) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        if grey.min() >= 0 and grey.max() <= 65535:
            return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise MediaError("has samples of 32 bits: save it with 8 or 16 bits a channel")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _over_white(image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _over_white(rgba: Any) -> np.ndarray:
    white = Image.new("RGBA", rgba.size, "white")
    return np.array(Image.alpha_composite(white, rgba).convert("RGB"))


@contextlib.contextmanager
def _replaced_when_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder; rename it at the end, remove it on any error."""
    if path.is_dir():
        raise MediaError(f"{path} is a folder: name a file in it")
    failure = None
    try:
        with files.whole(path) as part:
            try:
                yield part
            except OSError as error:
                failure = error
                raise
    except OSError as error:
        if error is failure:  # what went wrong inside says so itself
            raise
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> MediaError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return MediaError(f"{path} can't be written: {reason}: choose another folder or make room")


def _av_error() -> type[Exception]:
    import av

    return av.FFmpegError


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _av_error() as error:
        raise MediaError(
            f"{path} is damaged ({error.strerror}): copy it again, or re-encode it"
        ) from error


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except _av_error() as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import av

    _check_file(path)
    # The prefix keeps a colon in a file's name from being taken for a protocol.
    url = f"file:{path}"
    try:
        try:
            container = av.open(url)
        except UnicodeDecodeError:
            container = av.open(url, metadata_errors="replace")
    except av.FFmpegError as error:
        if _is_cut_short(path):
            reason = "is cut short: none of its frames can be read: copy it again"
        else:
            reason = "is not a video that can be read: save it as mp4, mov, webm or gif"
        raise MediaError(f"{path} {reason}") from error
    with container:
        yield container


def _video_stream(container: Any, path: Path) -> Any:
    from av.stream import Disposition

    stream = container.streams.best("video")
    # FFmpeg counts the cover picture of a sound file as a video.
    if stream is None or Disposition.attached_pic in stream.disposition:
        raise MediaError(f"{path} has no video stream: name a file with pictures in it")
    if stream.codec_context is None:
        raise MediaError(f"{path}: its video codec is unknown: re-encode it as H.264")
    return stream


def _sound_stream(container: Any) -> Any:
    stream = container.streams.best("audio")
    return stream if stream is not None and stream.codec_context is not None else None


def _decoder(stream: Any) -> Any:
    import av

    codec = stream.codec_context.name
    if stream.metadata.get("alpha_mode") == "1" and codec in ("vp8", "vp9"):
        # FFmpeg's own decoders drop the alpha plane of a WebM; libvpx's keep it.
        with contextlib.suppress(ValueError):
            return av.CodecContext.create({"vp8": "libvpx", "vp9": "libvpx-vp9"}[codec], "r")
    return stream.codec_context


def _demuxed(container: Any, stream: Any) -> contextlib.closing:
    # Built for Python's stable ABI, as PyAV's wheels are, a generator of Cython's that is dropped
    # half-way never cleans up: its packet would stay in memory for good.
    return contextlib.closing(container.demux(stream))


def _first_frame(container: Any, stream: Any) -> Any:
    try:
        with _demuxed(container, stream) as packets:
            return next((frame for packet in packets for frame in packet.decode()), None)
    except _av_error():
        return None


def _packets(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    with _demuxed(container, stream) as packets:
        while True:
            try:
                with _readable(path):
                    packet = next(packets, None)
            except MediaError:
                # If a file ends in the middle of a packet, the number of its frames says more.
                if _is_cut_short(path):
                    return
                raise
            if packet is None:
                return
            yield packet


def _is_shown(packet: Any) -> bool:
    """Say whether a packet becomes a frame: not outside an edit list, nor VP8's hidden ones."""
    if not packet.size or packet.is_discard:
        return False
    if packet.stream.codec_context.name == "vp8":
        return bool(bytes(packet)[0] & 0x10)
    return True


def _shown_times(path: Path) -> list[Fraction]:
    """Return when each frame of a video is shown, in seconds, in the order of showing."""
    with _opened(path) as container:
        stream = _video_stream(container, path)
        tick = _fraction(stream.time_base)
        stamps = [
            (packet.pts if packet.pts is not None else packet.dts) or 0
            for packet in _packets(container, stream, path)
            if _is_shown(packet)
        ]
    return [stamp * tick for stamp in sorted(stamps)]


def _fraction(ratio: Any) -> Fraction:
    return Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(0)


def _frame_rate(stream: Any, count: int, span: Fraction) -> Fraction:
    """Return the exact rate that the file names, if its frames keep it; otherwise their mean."""
    named = [_fraction(stream.guessed_rate), _fraction(stream.average_rate)]
    if count < 2 or not span:
        return next((rate for rate in named if rate), Fraction(25))
    mean = (count - 1) / span
    for rate in named:
        if abs(rate - mean) < mean / 200:
            return rate
    return mean.limit_denominator(1001)


def _check_whole(path: Path, container: Any, stream: Any, read: int, demuxed: int) -> None:
    missing = f"{read} of its {demuxed} frames" if read < demuxed else ""
    if not demuxed:
        missing = "none of its frames"
    elif _is_cut_short(path):
        seconds = (container.duration or 0) / 1_000_000
        total = max(stream.frames, round(seconds * _fraction(stream.average_rate)))
        missing = f"{read} of its {total} frames" if read < total else f"only {read} frames"
    if missing:
        raise MediaError(
            f"{path} is damaged or cut short: {missing} can be read: copy it again, or re-encode it"
        )


def _is_cut_short(path: Path) -> bool:
    """Say whether a file ends before its own headers say: mp4 and mov, WebM and Matroska, GIF."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:3] == b"GIF":
            file.seek(-min(size, 64), os.SEEK_END)
            return not file.read().rstrip(b"\0").endswith(b";")
        if start[:4] == b"\x1a\x45\xdf\xa3":
            file.seek(0)
            end = 0
            for _ in ("EBML header", "segment"):
                file.seek(end)
                _ebml_number(file)
                length = _ebml_number(file)
                if length is None:
                    return False
                end = file.tell() + length
            return end > size
        position = 0
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            # Length 0 means "to the end"; behind the last box anything may stand.
            if length == 0 or kind not in _BOXES:
                return False
            position += max(length, 8)
        return position > size


def _ebml_number(file: Any) -> int | None:
    """Read a variable-length number of EBML (RFC 8794, section 4); None where it is "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    mask = (1 << 7 * length) - 1
    return None if value & mask == mask else value & mask


@dataclass(frozen=True)
class _Display:
    """How decoded frames become upright ones with square pixels."""

    width: int
    height: int
    transpose: bool
    mirror: bool
    flip: bool

    @classmethod
    def of(cls, frame: Any, stream: Any) -> "_Display":
        aspect = _fraction(stream.sample_aspect_ratio) or Fraction(1)
        a, b, c, d = _display_matrix(frame)
        transpose = abs(b) > abs(a)
        return cls(
            width=max(round(frame.width * aspect), 1),
            height=frame.height,
            transpose=transpose,
            mirror=(c if transpose else a) < 0,
            flip=(b if transpose else d) < 0,
        )

    @property
    def shown_size(self) -> tuple[int, int]:
        return (self.height, self.width) if self.transpose else (self.width, self.height)

    def rgb(self, frame: Any) -> np.ndarray:
        has_alpha = any(component.is_alpha for component in frame.format.components)
        image = frame.to_ndarray(
            format="rgba" if has_alpha else "rgb24",
            width=self.width,
            height=self.height,
            interpolation=_SCALING,
            src_colorspace=frame.colorspace,
            # PyAV before 17 ignores the source's unless the target's differs.
            dst_colorspace="ITU601",
            src_color_range=frame.color_range,
        )
        if has_alpha:
            image = _over_white(Image.fromarray(image))
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.mirror:
            image = image[:, ::-1]
        if self.flip:
            image = image[::-1]
        return np.ascontiguousarray(image)


def _display_matrix(frame: Any) -> tuple[float, float, float, float]:
    """Return a, b, c, d of a frame's display matrix: x' = a x + c y and y' = b x + d y."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 15 to 18 refuse all side data of a frame that has a kind they do not name.
        angle = math.radians(-frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, _, _, _, _ = struct.unpack("=9i", bytes(matrix)[:36])
    return a, b, c, d


def _frame_times(frame_rate: Fraction, shown: Sequence[Fraction]) -> Iterator[Fraction]:
    """Yield frame times from 0 on: as shown while these last, then at the frame rate."""
    time = -1 / frame_rate
    for moment in shown:
        # The encoder refuses two frames at one moment.
        time = max(moment - shown[0], time + Fraction(1, _TICKS))
        yield time
    while True:
        time += 1 / frame_rate
        yield time


@contextlib.contextmanager
def _mp4(path: Path) -> Iterator[Any]:
    import av

    with _replaced_when_whole(path) as part:
        with _writable(path):
            output = av.open(f"file:{part}", "w", format="mp4", options={"movflags": "+faststart"})
        try:
            yield output
        except BaseException:
            with contextlib.suppress(av.FFmpegError):
                output.close()
            raise
        with _writable(path):
            output.close()


def _h264_stream(output: Any, frame_rate: Fraction, crf: int, first: np.ndarray) -> Any:
    _check_frame(first)
    height, width = (side + side % 2 for side in first.shape[:2])
    options = {
        "crf": str(crf),
        "threads": "1",
        "colorspace": "bt709",
        "color_primaries": "bt709",
        "color_trc": "bt709",
        "color_range": "tv",
    }
    if width % _TREE_PIXELS:
        options["mbtree"] = "0"
    stream = output.add_stream("libx264", rate=frame_rate, options=options)
    stream.height, stream.width = height, width
    stream.pix_fmt = "yuv420p"
    return stream


def _yuv_frame(image: np.ndarray) -> Any:
    import av

    _check_frame(image)
    height, width, _ = image.shape
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        dst_colorspace="ITU709",
        dst_color_range="MPEG",
        interpolation=_SCALING,
    )


@contextlib.contextmanager
def _carried_sound(
    like: Path, output: Any, start: Fraction
) -> Iterator[Iterator[tuple[Fraction, Any]]]:
    """Give the packets of a video's sound for another file, with their times from ``start`` on."""
    with _opened(like) as container:
        source = _sound_stream(container)
        packets = _packets(container, source, like)
        if source.codec_context.name in _MP4_SOUND:
            yield _copied_sound(packets, output.add_stream_from_template(source), start)
        else:
            yield _encoded_sound(packets, _aac_stream(output, source.codec_context), start, like)


def _copied_sound(
    packets: Iterable[Any], target: Any, start: Fraction
) -> Iterator[tuple[Fraction, Any]]:
    for packet in packets:
        if packet.size and packet.pts is not None:
            tick = _fraction(packet.time_base)
            packet.pts -= round(start / tick)
            packet.dts = packet.pts
            # The packet that ends at 0 primes the decoder.
            if packet.pts + (packet.duration or 0) >= 0:
                packet.stream = target
                yield packet.pts * tick, packet


def _aac_stream(output: Any, source: Any) -> Any:
    rate = source.sample_rate if source.sample_rate in _AAC_RATES else 48_000
    stream = output.add_stream("aac", rate=rate)
    stream.codec_context.layout = "mono" if source.layout.nb_channels == 1 else "stereo"
    return stream


def _encoded_sound(
    packets: Iterable[Any], target: Any, start: Fraction, like: Path
) -> Iterator[tuple[Fraction, Any]]:
    for frame in itertools.chain(_decoded_sound(packets, start, like), [None]):
        for encoded in target.encode(frame):
            yield encoded.pts * _fraction(encoded.time_base), encoded


def _decoded_sound(packets: Iterable[Any], start: Fraction, like: Path) -> Iterator[Any]:
    for packet in packets:
        with _readable(like):
            frames = packet.decode()
        for frame in frames:
            frame.pts -= round(start / _fraction(frame.time_base))
            if frame.pts >= 0:
                yield frame

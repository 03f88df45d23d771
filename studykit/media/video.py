"""Images and videos in and out: RGB frames as a stream, so that no video has to fit in memory.

What can't be read whole is refused, because a clip that was cut short silently would be measured
and rated as if it were the method's doing.
"""

import bisect
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studykit import files
from studykit.errors import MediaError, first_line
from studykit.media import child
from studykit.media.display import SCALING

# Ticks a second of a clip whose frame rate is variable.
_TICKS = 90_000
# Containers round times, to milliseconds at the coarsest; so do people.
_SLACK = 0.0006

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
    times : tuple of Fraction
        When each frame is shown, in seconds of the file.
    notes : tuple of str
        What reading does to its pictures that a reader of results should know.
    """

    width: int
    height: int
    frame_rate: Fraction
    frame_count: int
    duration: float
    has_audio: bool
    variable: bool
    times: tuple[Fraction, ...] = ()
    notes: tuple[str, ...] = ()


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as it is shown.

    PNG, JPEG, WebP, AVIF, GIF, TIFF, BMP, PNM, TGA, JPEG 2000; HEIC with the extra "heic". EXIF
    rotation and ICC profiles are applied, transparency is composited over white, 16-bit grey is
    scaled to 8 bits, and grey, palette and CMYK become RGB. Of an animated image the first frame
    is taken.

    Returns
    -------
    (H, W, 3) uint8
        RGB.

    Raises
    ------
    MediaError
        The file is missing, no file, empty, no image, cut short, or larger than Pillow's limit
        of some 89 million pixels; or decoding it took more than :mod:`studykit.media.child` lets
        it.
    """
    (image,) = child.read(path, "image")
    return image


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
        ".png": {"compress_level": 4},  # in half the time of 6, for files larger by a fiftieth
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
        The file is missing, no file, empty, no video but an image, has no video stream, or is cut
        short; or decoding it took more than :mod:`studykit.media.child` lets it.
    """
    (found,) = child.read(path, "look")
    tick = Fraction(found["tick"])
    times = [stamp * tick for stamp in found["stamps"]]
    steps = [later - time for time, later in itertools.pairwise(times)]
    rate = _frame_rate([Fraction(text) for text in found["rates"]], times)
    # Containers round times to their ticks: a difference of one says nothing.
    tolerance = max(tick, 1 / rate / 10)
    return VideoInfo(
        width=found["width"],
        height=found["height"],
        frame_rate=rate,
        frame_count=len(times),
        duration=float(len(times) / rate),
        has_audio=found["has_audio"],
        variable=max(steps, default=0) - min(steps, default=0) > tolerance,
        times=tuple(times),
        notes=tuple(found["notes"]),
    )


def file_kind(path: str | Path) -> str:
    """Say what a file is by its content: "image", "video" (animations among them) or ""."""
    try:
        (kind,) = child.read(path, "kind")
    except MediaError:
        return ""
    return kind


def frames_between(times: Sequence[Fraction], start: float, end: float | None) -> range:
    """Return which frames of a video are shown from ``start`` on and before ``end``.

    In seconds since its first frame, by each frame's own time, such as :func:`probe` finds it.
    """
    since = [float(time - times[0]) + _SLACK for time in times]
    return range(
        bisect.bisect_left(since, start),
        len(since) if end is None else bisect.bisect_left(since, end),
    )


def read_frames(
    path: str | Path, first: int = 0, stop: int | None = None, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Yield a video's frames, one at a time and every one once, as they are shown.

    Rotation flags and non-square pixels are applied, interlaced frames are deinterlaced, HDR is
    tone-mapped to SDR (:func:`studykit.media.display.to_sdr`), frames of another size than the
    first are fitted into it, and transparency is composited over white.

    Parameters
    ----------
    first, stop : int
        Yield the frames from ``first`` on, and none from ``stop`` on; what lies behind is not
        read.
    notes : list of str, optional
        Gets, when all are read, what of this was done.

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
    with contextlib.closing(child.read(path, "frames", first, stop)) as answers:
        for answer in answers:
            if isinstance(answer, np.ndarray):
                yield answer
            elif notes is not None:
                notes.append(answer)


def picked(frames: Iterable[np.ndarray], order: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield frames in a rising order, in which one may come again; those behind are not read."""
    waiting = enumerate(frames)
    index, frame = next(waiting)
    for wanted in order:
        while index < wanted:
            index, frame = next(waiting)
        yield frame


def read_sound(path: str | Path, *, first: int = 0, rate: int = 16_000) -> Iterator[np.ndarray]:
    """Yield a video's sound in pieces, end to end, from the moment its frame ``first`` is shown.

    Channels are mixed. Where the sound begins late or has a gap there are zeros, damaged pieces
    are passed over, and a video without sound yields nothing.

    Yields
    ------
    (n,) float32
        Of about -1 to 1, ``rate`` samples a second.

    Raises
    ------
    MediaError
        As :func:`probe`.
    """
    start = probe(path).times[first]
    with contextlib.closing(child.read(path, "samples", str(start), rate)) as pieces:
        for piece in pieces:
            yield np.frombuffer(piece, "<f4")


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    *,
    frame_rate: Fraction,
    like: str | Path | None = None,
    like_from: int = 0,
    crf: int = 18,
    notes: list[str] | None = None,
    comment: str = "",
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
    notes : list of str, optional
        Gets why the sound, or a part of it, could not be carried over.
    comment : str
        What the file says of itself.

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
    varies = info is not None and info.variable
    shown = info.times[like_from:] if info is not None else ()
    tick = Fraction(1, _TICKS) if varies else 1 / frame_rate
    times = _frame_times(frame_rate, shown if varies else ())
    count = 0
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(_mp4(path))
        images = iter(frames)
        first = next(images, None)
        if first is None:
            raise MediaError(f"{path}: there are no frames to write")
        output.metadata.update({"comment": comment} if comment else {})
        video = _h264_stream(output, frame_rate, crf, first)
        video.codec_context.time_base = tick
        sound: Iterator[tuple[Fraction, Any]] = iter(())
        if info is not None and info.has_audio:
            lost = [] if notes is None else notes
            sound = stack.enter_context(_carried_sound(like, output, shown[0], lost))
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


def _check_frame(image: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"(H, W, 3) uint8 is expected, not {image.shape} {image.dtype}")


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
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except _av_error() as error:
        raise _unwritable(path, error) from error


def _frame_rate(named: Sequence[Fraction], times: Sequence[Fraction]) -> Fraction:
    """Return the exact rate that the file names, if its frames keep it; otherwise their mean."""
    span = times[-1] - times[0]
    if len(times) < 2 or not span:
        return next((rate for rate in named if rate), Fraction(25))
    mean = (len(times) - 1) / span
    for rate in named:
        if abs(rate - mean) < mean / 200:
            return rate
    return mean.limit_denominator(1001) or mean  # frames may lie hours apart


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
        interpolation=SCALING,
    )


@contextlib.contextmanager
def _carried_sound(
    like: str | Path, output: Any, start: Fraction, notes: list[str]
) -> Iterator[Iterator[tuple[Fraction, Any]]]:
    """Give the packets of a video's sound for another file, with their times from ``start`` on.

    A child writes them as a file that is read while it grows. What fails is noted: a clip without
    sound is worth more than none.
    """
    import av

    with contextlib.closing(child.read(like, "sound", str(start))) as parts:
        pipe = _Parts(parts)
        try:
            container = av.open(pipe, format="nut")
            target = output.add_stream_from_template(container.streams.audio[0])
        except (av.FFmpegError, ValueError, IndexError) as error:
            notes.append(_lost_sound("can't be carried over", pipe.failure or error))
            yield iter(())
            return
        with container:
            yield _sound_packets(container, target, pipe, notes)


def _sound_packets(
    container: Any, target: Any, pipe: "_Parts", notes: list[str]
) -> Iterator[tuple[Fraction, Any]]:
    import av

    from studykit.media.decode import SOUND_OFFSET

    end = None
    packets = contextlib.closing(container.demux(container.streams.audio[0]))
    with packets as opened, contextlib.suppress(av.FFmpegError):
        for packet in opened:
            if packet.size:
                tick = Fraction(packet.time_base.numerator, packet.time_base.denominator)
                packet.pts = packet.dts = packet.pts - round(SOUND_OFFSET / tick)
                if end is None or packet.pts > end:  # an mp4's times only rise
                    packet.stream, end = target, packet.pts
                    yield packet.pts * tick, packet
    if pipe.failure:
        notes.append(_lost_sound("ends early", pipe.failure))


def _lost_sound(what: str, error: Exception) -> str:
    return f"the driving's sound {what} ({first_line(error)})"


class _Parts:
    """A file to read from, made of parts that come one after the other."""

    def __init__(self, parts: Iterator[Any]) -> None:
        self._parts, self._rest = parts, b""
        self.failure: MediaError | None = None

    def read(self, size: int) -> bytes:
        try:
            while not self._rest:
                self._rest = bytes(next(self._parts))
        except StopIteration:
            return b""
        except MediaError as error:  # FFmpeg would hide it
            self.failure = error
            return b""
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

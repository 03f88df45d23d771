"""Files from anywhere, decoded: what the child of :mod:`studykit.media.child` does for its parent.

Pillow and FFmpeg are let near the formats listed here alone: others run programs (EPS) or open
further files (playlists). Little is imported, since a child starts for each process that reads.
"""

import contextlib
import errno
import importlib
import io
import itertools
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO, Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image, ImageOps, UnidentifiedImageError

from studykit.errors import MediaError, first_line
from studykit.media.display import Display, over_white

PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485  # of an image, or of a video's frame
# No still scene is coded in so few bytes, but a decompression bomb is.
_PIXELS_A_BYTE = 1_000_000

# What an image may be, by Pillow's names and the modules that hold them.
_IMAGES = {
    "PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "AVIF": "Avif", "GIF": "Gif", "TIFF": "Tiff",
    "BMP": "Bmp", "PPM": "Ppm", "TGA": "Tga", "JPEG2000": "Jpeg2K",
}  # fmt: skip
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")

# What a video may be, by the names of FFmpeg's demuxers: files that stand for themselves.
_VIDEOS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,"
    "ogg,flv,gif,apng,mxf,nut,dv,yuv4mpegpipe"
)
_OPTIONS = {"format_whitelist": _VIDEOS, "protocol_whitelist": "file"}

# Codecs whose packets browsers accept inside an mp4; any other sound is encoded again, as AAC.
_MP4_SOUND = ("aac", "mp3", "mp3float")
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_FRAME = 1024
_OUT_OF_STEP = Fraction(1, 10)  # seconds by which a sound's time may differ from its samples'

# Times that go back by more are a restart, and those of a transport stream that leap are, too.
_BACK, _LEAP = Fraction(1, 2), 10

# What FFmpeg calls an error and is none: references that encoders leave out or name twice.
_HARMLESS = re.compile(
    rb"mmco|co located POCs|reference frames|[Rr]eference picture|reference \d+ frame|Frame num"
    rb"|no frame!|SEI|unref short|concealing|PPS changed|repeated"
)

# The boxes that make up an mp4 or mov at its top level (ISO/IEC 14496-12; QuickTime).
_BOXES = (
    *(b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"ssix", b"meta", b"uuid"),
    *(b"emsg", b"prft", b"pdin", b"free", b"skip", b"wide", b"pnot", b"udta"),
)

# Tells the parent that there is progress where nothing can be handed over yet.
beat: Callable[[], None] = lambda: None  # noqa: E731
# Where FFmpeg's messages lie, if they are kept.
messages: IO[bytes] | None = None


# ------------------------------------------------------------------ images


def image(path: str) -> np.ndarray:
    """Read an image as it is shown: (H, W, 3) uint8, as :func:`studykit.media.video.read_image`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _image(path) as picture:
                return _to_rgb(ImageOps.exif_transpose(picture))
    except MediaError as error:
        raise MediaError(f"{path} {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = PIXELS // 10**6
        raise MediaError(f"{path} has more than {limit} million pixels: scale it down") from None
    except UnidentifiedImageError:
        text = "is not an image that can be read: save it as PNG, JPEG or WebP"
        if kind(path) == "video":
            text = "is a video: a source is a still image, save one of its frames as PNG"
        raise MediaError(f"{path} {text}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the damaged bytes led them to
        if isinstance(error, OSError) and error.errno:
            raise MediaError(f"{path} can't be read: {error.strerror}") from None
        raise MediaError(
            f"{path} is damaged or cut short ({first_line(error)}): copy or export it again"
        ) from error


def kind(path: str) -> str:
    """Say what a file is: "image", "video" (animated pictures that FFmpeg reads too) or ""."""
    try:
        if _still(path):
            return "image"
        with _opened(path) as container:
            _video_stream(container, path)
            return "video"
    except MediaError:
        return ""


def _image(path: str) -> Any:
    with open(path, "rb") as file:
        start = file.read(12)
    for name in _IMAGES.values():
        with contextlib.suppress(ImportError):  # AVIF is in Pillow from 11.3 on
            importlib.import_module(f"PIL.{name}ImagePlugin")
    formats = [name for name in _IMAGES if name in Image.OPEN]
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        try:
            from pi_heif import register_heif_opener
        except ImportError:
            raise MediaError(
                'is a HEIC image: pip install "pi-heif>=0.18", or save it as JPEG'
            ) from None
        register_heif_opener()
        formats = ["HEIF"]
    return Image.open(path, formats=formats)


def _still(path: str) -> str:
    """Return the format of a still image, and of an animation that FFmpeg doesn't read; or ""."""
    try:
        with _image(path) as picture:
            moves = getattr(picture, "is_animated", False)
            if picture.format == "WEBP" and moves:
                return "animated WebP"
            return "" if moves and picture.format in ("GIF", "PNG", "AVIF") else picture.format
    except UnidentifiedImageError:
        return ""
    except MediaError:
        return "HEIC"
    except OSError as error:
        if error.errno:
            raise MediaError(f"{path} can't be read: {error.strerror}") from None
        return "damaged image"
    except Exception:
        return "damaged image"


def _to_rgb(picture: Any) -> np.ndarray:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() >= 0 and grey.max() <= 65535:
            return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise MediaError("has samples of 32 bits: save it with 8 or 16 bits a channel")
    clear = picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info
    picture = _in_srgb(picture)
    return over_white(picture.convert("RGBA")) if clear else np.array(picture.convert("RGB"))


def _in_srgb(picture: Any) -> Any:
    """Turn the colours that an ICC profile names, such as a telephone's P3, into sRGB's."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    from PIL import ImageCms

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(given):
            return picture
        mode = "RGB" if picture.mode == "CMYK" else picture.mode
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, given, srgb, outputMode=mode)
    except (ImageCms.PyCMSError, OSError):  # a profile of something else: as if there were none
        return picture


# ------------------------------------------------------------------ videos


def look(path: str) -> dict[str, Any]:
    """Look a video through, decoding no more than its first frame.

    Returns
    -------
    dict
        ``width``, ``height``, ``rates`` (named by the file, as texts), ``tick`` (seconds, as a
        text), ``stamps`` (when each frame is shown, in ticks, in that order), ``has_audio``,
        ``notes``.
    """
    with _opened(path) as container:
        stream = _video_stream(container, path)
        timeline = _Timeline(container, stream)
        lead: int | None = None
        stamps: list[int] = []
        for packet in _packets(container, stream, path):
            if lead is None and packet.is_keyframe:  # it may lie before what an edit list shows
                lead = len(stamps)
            if _is_shown(packet):
                stamps.append(timeline.at(packet))
    with _opened(path) as container:
        stream = _video_stream(container, path)
        tally = _Tally()
        frame = next(_decoded(container, stream, path, tally), None)
        counted = sorted(stamps[lead or 0 :])
        if frame is not None and frame.pts is not None:
            counted = [stamp for stamp in counted if stamp >= frame.pts]
        _check_whole(path, container, stream, len(counted) if frame else 0, len(counted))
        display = Display.of(frame, stream)
        _check_bomb(path, frame, len(counted))
        width, height = display.shown_size
        notes = list(display.notes)
        if left_out := len(stamps) - len(counted):
            notes.append(f"its first {left_out} frames need others that are not there: left out")
        sounds = _sound_stream(container) is not None
        if not sounds and container.streams.audio:
            notes.append("its sound is of an unknown kind: the clip has none")
        return {
            "width": width,
            "height": height,
            "rates": [str(_fraction(r)) for r in (stream.guessed_rate, stream.average_rate)],
            "tick": str(timeline.tick),
            "stamps": counted,
            "has_audio": sounds,
            "notes": notes,
        }


def frames(path: str, first: int, stop: int | None) -> Iterator[np.ndarray | str]:
    """Yield a video's frames as they are shown, (H, W, 3) uint8, and at the end notes as texts.

    Frames before ``first`` are not yielded, and what lies behind ``stop`` is not read.
    """
    with _opened(path) as container:
        stream = _video_stream(container, path)
        tally, count, display = _Tally(), 0, None
        for frame in itertools.chain(_decoded(container, stream, path, tally), [None]):
            if display is None:
                if frame is None:
                    break
                display = Display.of(frame, stream)
            for shown in display.progressive(frame):
                if count == stop:
                    yield from display.notes
                    return
                if count >= first:
                    yield display.rgb(shown)
                beat()
                count += 1
        _check_whole(path, container, stream, count, tally.expected, tally)
        yield from display.notes if display else ()


@dataclass
class _Tally:
    """What was seen while decoding.

    Attributes
    ----------
    expected : int
        How many frames should come.
    damaged : int
        How many came with an error.
    first : str
        The first error.
    """

    expected: int = 0
    damaged: int = 0
    first: str = ""
    _early: list[int] = field(default_factory=list)
    _start: int | None = None

    def count(self, stamp: int) -> None:
        """Count a packet; a picture before the first that is shown needs others not there."""
        if self._start is None:
            self._early.append(stamp)
        self.expected += self._start is None or stamp >= self._start

    def begin(self, start: int | None) -> None:
        if self._start is None and start is not None:
            self._start = start
            self.expected -= sum(stamp < start for stamp in self._early)
            self._early.clear()


def _decoded(container: Any, stream: Any, path: str, tally: _Tally) -> Iterator[Any]:
    """Yield decoded frames until one is damaged; the rest is looked through to count what is."""
    decoder, timeline = _decoder(stream), _Timeline(container, stream)
    count, keyed = 0, False
    if messages is not None:
        _complaint()
    for packet in _packets(container, stream, path):
        keyed = keyed or packet.is_keyframe
        if _is_shown(packet):
            stamp = timeline.at(packet)
            if keyed:
                tally.count(stamp)
        error = ""
        try:
            decoded = decoder.decode(packet)
        except av.FFmpegError as failure:
            decoded, error = [], failure.strerror
            if failure.errno == errno.ENOMEM:
                raise MemoryError from failure
        error = _complaint() or error
        if decoded and count == 0:
            tally.begin(decoded[0].pts)
        error = error or ("marked as damaged" if any(f.is_corrupt for f in decoded) else "")
        if error and (keyed or count):
            tally.damaged += 1
            tally.first = tally.first or error
        for frame in decoded:
            if not tally.damaged:
                yield frame
            count += 1


def _complaint() -> str:
    """Return what FFmpeg has called an error of a decoder since the last time, or ""."""
    if messages is None or not messages.tell():
        return ""
    size = messages.tell()
    messages.seek(0)
    lines = messages.read(min(size, 1 << 16)).splitlines()
    messages.seek(0)
    messages.truncate()
    for line in lines:
        found = re.match(rb"\[(\w+) @ \w+\] (.+)", line)
        if found and found[1] in _decoders and not _HARMLESS.search(found[2]):
            return found[2].decode(errors="replace").strip()
    return ""


_decoders: set[bytes] = set()


class _Timeline:
    """When packets are shown, in ticks: those without a time follow the last, restarts go on."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.tick = _fraction(stream.time_base) or Fraction(1, 90_000)
        rate = _fraction(getattr(stream, "guessed_rate", None) or 0) or Fraction(25)
        self._step = max(round(1 / rate / self.tick), 1)
        self.leaps = container.format.name in ("mpegts", "mpeg")
        self._offset, self._last, self._end = 0, None, 0

    @property
    def shift(self) -> Fraction:
        """How much later than the file says things are shown, after restarts, in seconds."""
        return self._offset * self.tick

    def at(self, packet: Any) -> int:
        given = packet.dts if packet.dts is not None else packet.pts
        if given is None:
            decoded = self._end
        else:
            decoded = given + self._offset
            if self._last is not None and (
                decoded < self._last - _BACK / self.tick
                or (self.leaps and decoded > self._last + _LEAP / self.tick)
            ):
                self._offset += self._end - decoded
                decoded = self._end
        self._last, self._end = decoded, decoded + (packet.duration or self._step)
        return packet.pts + self._offset if packet.pts is not None else decoded


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    # The prefix keeps a colon in a file's name from being taken for a protocol.
    url = f"file:{path}"
    try:
        try:
            container = av.open(url, options=_OPTIONS)
        except UnicodeDecodeError:
            container = av.open(url, options=_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        _raise_of_system(error, path)
        if still := _still(path):
            reason = f"is a still image ({still}): a driving is a video"
            if still.startswith("animated"):
                reason = f"is an {still}, which can't be read as a video: save it as GIF or mp4"
        elif _is_cut_short(path):
            reason = "is cut short: none of its frames can be read: copy it again"
        else:
            reason = "is not a video that can be read: save it as mp4, mov, webm or gif"
        raise MediaError(f"{path} {reason}") from error
    with container:
        yield container


def _raise_of_system(error: Any, path: str) -> None:
    """Raise what the system has said, such as "Input/output error", and not the decoder."""
    if error.errno == errno.ENOMEM:
        raise MemoryError from error
    if error.errno in errno.errorcode and error.errno != errno.EINVAL:
        raise MediaError(f"{path} can't be read: {os.strerror(error.errno)}") from error


def _video_stream(container: Any, path: str) -> Any:
    if container.format.name in ("mov,mp4,m4a,3gp,3g2,mj2", "gif", "apng") and (
        still := _still(path)
    ):
        raise MediaError(f"{path} is a still image ({still}): a driving is a video")
    stream = container.streams.best("video")
    # FFmpeg counts the cover picture of a sound file as a video.
    if stream is None or Disposition.attached_pic in stream.disposition:
        raise MediaError(f"{path} has no video stream: name a file with pictures in it")
    if stream.codec_context is None:
        raise MediaError(f"{path}: its video codec is unknown: re-encode it as H.264")
    if stream.codec_context.width * stream.codec_context.height > PIXELS:
        limit = PIXELS // 10**6
        raise MediaError(f"{path} has frames of more than {limit} million pixels: scale it down")
    return stream


def _sound_stream(container: Any) -> Any:
    stream = container.streams.best("audio")
    return stream if stream is not None and stream.codec_context is not None else None


def _decoder(stream: Any) -> Any:
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ("vp8", "vp9"):
        # FFmpeg's own decoders drop the alpha plane of a WebM; libvpx's keep it.
        with contextlib.suppress(ValueError):
            name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[decoder.name]
            decoder = av.CodecContext.create(name, "r")
    decoder.options = {"err_detect": "crccheck", "max_pixels": str(PIXELS)}
    _decoders.add(decoder.name.encode())
    return decoder


def _demuxed(container: Any, stream: Any) -> contextlib.closing:
    # Built for Python's stable ABI, as PyAV's wheels are, a generator of Cython's that is dropped
    # half-way never cleans up: its packet would stay in memory for good.
    return contextlib.closing(container.demux(stream))


def _packets(container: Any, stream: Any, path: str) -> Iterator[Any]:
    with _demuxed(container, stream) as packets:
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                # If a file ends in the middle of a packet, the number of its frames says more.
                if _is_cut_short(path):
                    return
                _raise_of_system(error, path)
                raise MediaError(
                    f"{path} is damaged ({error.strerror}): copy it again, or re-encode it"
                ) from error
            if packet is None:
                return
            beat()
            yield packet


def _is_shown(packet: Any) -> bool:
    """Say whether a packet becomes a frame: not outside an edit list, nor VP8's hidden ones."""
    if not packet.size or packet.is_discard:
        return False
    if packet.stream.codec_context.name == "vp8":
        return bool(bytes(packet)[0] & 0x10)
    return True


def _fraction(ratio: Any) -> Fraction:
    return Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(0)


def _check_bomb(path: str, frame: Any, count: int) -> None:
    size = os.path.getsize(path)
    if frame.width * frame.height * count > _PIXELS_A_BYTE * size:
        raise MediaError(
            f"{path} holds {count} frames of {frame.width} x {frame.height} pixels in {size} "
            "bytes, as no picture of anything does: re-encode it"
        )


def _check_whole(
    path: str, container: Any, stream: Any, read: int, demuxed: int, tally: _Tally | None = None
) -> None:
    missing = f"{read} of its {demuxed} frames" if read < demuxed else ""
    if not demuxed:
        missing = "none of its frames"
    elif _is_cut_short(path):
        seconds = (container.duration or 0) / 1_000_000
        total = max(stream.frames, round(seconds * _fraction(stream.average_rate)))
        missing = f"{read} of its {total} frames" if read < total else f"only {read} frames"
    errors = ""
    if tally is not None and tally.damaged:
        missing = missing or f"{read} frames"
        errors = f' (FFmpeg finds errors in {tally.damaged} of them, the first: "{tally.first}")'
    if missing:
        raise MediaError(
            f"{path} is damaged or cut short: {missing} can be read{errors}: copy it again, or "
            "re-encode it"
        )


def _is_cut_short(path: str) -> bool:
    """Say whether a file ends before its own headers say: mp4 and mov, WebM and Matroska, GIF."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
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


# ------------------------------------------------------------------ sound

SOUND_OFFSET = Fraction(1)  # seconds, since what primes a decoder lies before 0


def sound(path: str, start: Fraction, file: IO[bytes]) -> None:
    """Write a video's sound as NUT, AAC or MP3, its times counted from ``start`` on.

    A piece without a time follows the last one; where times go back, the sound goes on. Times are
    later by :data:`SOUND_OFFSET`.
    """
    with _opened(path) as container:
        source = _sound_stream(container)
        timeline = _Timeline(container, source)
        packets = _packets(container, source, path)
        with av.open(file, "w", format="nut") as output:
            # A transport stream's packets carry their headers within, and their times restart.
            copied = source.codec_context.name in _MP4_SOUND and not timeline.leaps
            if copied:
                target = output.add_stream_from_template(source)
                pieces = _copied(packets, timeline, start)
            else:
                target = _aac_stream(output, source.codec_context)
                pieces = _encoded(packets, timeline, start, target)
            for piece in pieces:
                piece.stream = target
                output.mux(piece)


def samples(path: str, start: str, rate: int) -> Iterator[bytes]:
    """Yield a video's sound from ``start`` on, mono float32 end to end; nothing where it has none.

    Where it is silent or begins late there are zeros; damaged pieces are passed over.
    """
    with _opened(path) as container:
        source, end = _sound_stream(container), 0
        if source is None:
            return
        timeline = _Timeline(container, source)
        decoded = _decoded_sound(_packets(container, source, path), timeline, "mono", rate)
        for at, piece in _laid(decoded, Fraction(start), rate, 1):
            for gap in range(end, at, rate):
                yield bytes(4 * min(rate, at - gap))
            yield piece.astype("<f4").tobytes()
            end = at + piece.shape[1]


def _copied(packets: Iterable[Any], timeline: _Timeline, start: Fraction) -> Iterator[Any]:
    shift = round((start - SOUND_OFFSET) / timeline.tick)
    for packet in packets:
        if packet.size:
            packet.pts = packet.dts = timeline.at(packet) - shift
            # The packet that ends at 0 primes the decoder.
            if (packet.pts + (packet.duration or 0)) * timeline.tick >= SOUND_OFFSET:
                yield packet


def _aac_stream(output: Any, source: Any) -> Any:
    rate = source.sample_rate if source.sample_rate in _AAC_RATES else 48_000
    stream = output.add_stream("aac", rate=rate)
    stream.codec_context.layout = "mono" if source.layout.nb_channels == 1 else "stereo"
    return stream


def _encoded(
    packets: Iterable[Any], timeline: _Timeline, start: Fraction, target: Any
) -> Iterator[Any]:
    """Encode decoded sound, laid end to end on the time line of its samples."""
    codec = target.codec_context
    rate, layout = codec.sample_rate, codec.layout
    waiting = np.zeros((layout.nb_channels, 0), np.float32)
    position = None  # of the first sample that waits
    for at, samples in _laid(
        _decoded_sound(packets, timeline, layout, rate), start, rate, layout.nb_channels
    ):
        position = at + round(SOUND_OFFSET * rate) if position is None else position
        waiting = np.concatenate([waiting, samples], axis=1)
        while waiting.shape[1] >= _AAC_FRAME:
            yield from target.encode(_chunk(waiting, layout.name, rate, position))
            waiting, position = waiting[:, _AAC_FRAME:], position + _AAC_FRAME
    if waiting.shape[1]:
        yield from target.encode(_chunk(waiting, layout.name, rate, position))
    yield from target.encode(None)


def _laid(
    pieces: Iterable[tuple[Fraction | None, np.ndarray]], start: Fraction, rate: int, channels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield samples end to end and where they begin, with silence where there is a gap."""
    end, next_at = None, 0
    for moment, samples in pieces:
        at = round((moment - start) * rate) if moment is not None else next_at
        next_at = at + samples.shape[1]
        if end is None:
            if next_at <= 0:
                continue
            samples = samples[:, max(-at, 0) :]  # what lies before the first frame
            at = end = max(at, 0)
        while at - end > _OUT_OF_STEP * rate:
            silence = np.zeros((channels, min(at - end, rate)), np.float32)
            yield end, silence
            end += silence.shape[1]
        yield end, samples
        end = next_at = end + samples.shape[1]


def _chunk(samples: np.ndarray, layout: str, rate: int, position: int) -> Any:
    part = np.ascontiguousarray(samples[:, :_AAC_FRAME])
    frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
    return frame


def _decoded_sound(
    packets: Iterable[Any], timeline: _Timeline, layout: Any, rate: int
) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Yield when sound is heard, and its samples in this layout and rate: (channels, n) float32.

    Damaged packets are passed over: what follows keeps its time.
    """
    resampler, kind = None, None
    for packet in packets:
        moment = timeline.at(packet) * timeline.tick if packet.size else None
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        for frame in decoded:
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
                resampler = av.AudioResampler("fltp", layout, rate)
            if frame.pts is not None:
                moment = frame.pts * _fraction(frame.time_base) + timeline.shift
            for part in resampler.resample(frame):
                yield moment, part.to_ndarray()
                moment = None

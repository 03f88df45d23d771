"""Images and videos: nothing lost, nothing shifted, nothing half-written, whatever the format."""

import os
import struct
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from studykit.errors import MediaError
from studykit.media.video import (
    frames_between,
    probe,
    read_frames,
    read_image,
    read_sound,
    write_image,
    write_video,
)

RATE = Fraction(25)


# ------------------------------------------------------------------ images


def arrow():
    """A 40 x 24 picture whose four corners differ, so that every turn and mirror shows."""
    image = np.zeros((24, 40, 3), np.uint8)
    image[:12, :20] = (255, 0, 0)
    image[:12, 20:] = (0, 255, 0)
    image[12:, :20] = (0, 0, 255)
    image[12:, 20:] = (255, 255, 255)
    return image


# How a viewer must turn the stored pixels for each EXIF orientation (CIPA DC-008, 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_an_image_comes_back_as_written(tmp_path, suffix):
    image = astronaut()[:201, 100:231]
    write_image(tmp_path / f"a{suffix}", image)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.shape == image.shape and back.dtype == np.uint8 and back.flags.writeable
    error = np.abs(back.astype(int) - image).mean()
    assert error == 0 if suffix == ".png" else error < 3


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_rotation_is_applied(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    options = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {"lossless": True}
    Image.fromarray(arrow()).save(path, exif=exif, **options)
    expected = UPRIGHT[orientation](arrow())
    back = read_image(path)
    assert back.shape == expected.shape
    assert np.abs(back.astype(int) - expected).mean() < 2


def test_transparency_is_composited_over_white(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 0, 3], rgba[:, 1, 3], rgba[:, 2, 3] = 0, 128, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    half = round(255 - 255 * 128 / 255), round(200 * 128 / 255 + 127)
    assert read_image(tmp_path / "a.png")[0].tolist() == [
        [255, 255, 255],
        [half[1], half[0], half[0]],
        [200, 0, 0],
    ]
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png")[0, 0].tolist() == [255, 255, 255]


def test_a_palette_with_a_transparent_entry_is_read(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png")[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    palette.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "clear.png")[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_grey_and_bilevel_become_rgb(tmp_path):
    Image.fromarray(np.array([[0, 77, 255]], np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png")[0].tolist() == [[0] * 3, [77] * 3, [255] * 3]
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png")[0].tolist() == [[0] * 3, [255] * 3]


def test_16_bits_are_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 1, 128, 255]
    Image.fromarray(levels).save(tmp_path / "deep.tiff")
    assert read_image(tmp_path / "deep.tiff")[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_samples_of_32_bits_have_no_known_range_and_are_refused(tmp_path, kind):
    Image.fromarray(np.array([[0, 100_000]], kind)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="samples of 32 bits"):
        read_image(tmp_path / "a.tiff")


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "red.jpg")[8, 8] - np.array([255, 0, 0])).max() < 4


def bomb(path):
    """A PNG of some kilobytes that claims 20,000 x 20,000 pixels."""
    Image.new("1", (20_000, 20_000)).save(path)


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("missing.png", lambda p: None, "no file"),
        ("folder.png", lambda p: p.mkdir(), "is a folder"),
        ("zero.png", lambda p: p.touch(), "empty (0 bytes)"),
        ("text.png", lambda p: p.write_text("hello"), "not an image"),
        ("bomb.png", bomb, "million pixels"),
    ],
)
def test_an_unreadable_image_is_one_clear_line(tmp_path, name, make, says):
    path = tmp_path / name
    make(path)
    with pytest.raises(MediaError) as caught:
        read_image(path)
    text = str(caught.value)
    assert says in text and str(path) in text and "\n" not in text


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_image_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    write_image(path, astronaut())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MediaError, match=r"cut short|not an image"):
        read_image(path)


def test_an_image_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(MediaError, match=r"\.png, \.jpg or \.webp"):
        write_image(tmp_path / "a.docx", arrow())
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "a.png", arrow().astype(float))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MediaError, match="can't be written"):
        write_image(tmp_path / "file" / "a.png", arrow())
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(MediaError, match="is a folder"):
        write_image(tmp_path / "taken.png", arrow())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.png"]
    write_image(tmp_path / "new" / "deeper" / "a.png", arrow())
    assert os.listdir(tmp_path / "new" / "deeper") == ["a.png"]


# ------------------------------------------------------------------ videos


def numbered(index, height=48, width=64):
    """A frame that carries its number, as eight bright or dark blocks of the top half.

    The bottom half is red on the left and blue on the right, which shows how it was turned.
    """
    frame = np.zeros((height, width, 3), np.uint8)
    for bit in range(8):
        if index >> bit & 1:
            frame[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255
    frame[height // 2 :, : width // 2] = (220, 30, 30)
    frame[height // 2 :, width // 2 :] = (30, 30, 220)
    return frame


def number_of(frame):
    height, width, _ = frame.shape
    row = frame[height // 4].mean(axis=1)
    return sum((row[bit * width // 8 + width // 16] > 127) << bit for bit in range(8))


def encode(
    path,
    frames,
    codec="libx264",
    pix_fmt="yuv420p",
    rate=RATE,
    times=None,
    sound=None,
    options=None,
    container_options=None,
):
    """Write a video with PyAV alone.

    times : milliseconds of each frame; sound : (codec, samples at 48 kHz, start in seconds).
    """
    with av.open(str(path), "w", options=container_options or {}) as output:
        video = output.add_stream(codec, rate=rate, options=options or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = Fraction(1, 1000) if times else 1 / rate
        if sound:
            name, wave, start = sound
            audio = output.add_stream(name, rate=48_000)
            audio.codec_context.layout = "mono"
        for index, image in enumerate(frames):
            pixels = "rgba" if image.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(image, format=pixels)
            frame = frame.reformat(format=pix_fmt)
            frame.pts = times[index] if times else index
            frame.time_base = video.codec_context.time_base
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound:
            for offset in range(0, len(wave), 960):
                samples = wave[offset : offset + 960].astype(np.float32)[None]
                chunk = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                chunk.sample_rate = 48_000
                chunk.pts = offset + round(start * 48_000)
                chunk.time_base = Fraction(1, 48_000)
                if name == "libopus":
                    chunk = av.AudioResampler("flt", "mono", 48_000).resample(chunk)[0]
                output.mux(audio.encode(chunk))
            output.mux(audio.encode(None))
    return path


def sine(seconds):
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 48_000)) / 48_000)


def decode_sound(path):
    """Return (codec, samples, rate, start) of a file's sound, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        samples = np.concatenate([f.to_ndarray().reshape(-1) for f in frames])
        return stream.codec_context.name, samples, stream.rate, float(frames[0].time)


def shown_times(path):
    with av.open(str(path)) as container:
        return [round(frame.time * 1000) for frame in container.decode(video=0)]


B_FRAMES = {"bf": "3", "b_strategy": "0", "g": "12"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {"options": B_FRAMES}),
        ("a.mov", {"options": B_FRAMES}),
        ("fragmented.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("a.mkv", {"options": B_FRAMES}),
        ("a.avi", {"codec": "mpeg4"}),
        ("vp8.webm", {"codec": "libvpx"}),
        ("vp9.webm", {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16", "cpu-used": "5"}}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_every_frame_is_read_once_and_counted(tmp_path, name, settings):
    path = encode(tmp_path / name, [numbered(i) for i in range(50)], **settings)
    info = probe(path)
    frames = list(read_frames(path))
    assert [number_of(f) for f in frames] == list(range(50))
    assert frames[0].shape == (48, 64, 3) and frames[0].dtype == np.uint8
    assert info.frame_count == 50 and (info.width, info.height) == (64, 48)
    assert info.frame_rate == RATE and info.duration == pytest.approx(2.0)
    assert not info.variable and not info.has_audio


def test_the_hidden_frames_of_vp8_are_not_counted(tmp_path):
    frames = [numbered(i) for i in range(20)]
    plain = encode(tmp_path / "plain.webm", frames, codec="libvpx", options={"g": "1"})
    path = tmp_path / "hidden.webm"
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        target = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            # Each keyframe again, with the show_frame bit cleared (RFC 6386, section 9.1).
            data = bytes(packet)
            hidden = av.Packet(bytes([data[0] & ~0x10]) + data[1:])
            hidden.pts = hidden.dts = packet.pts + 20
            hidden.time_base = packet.time_base
            for copy in (packet, hidden):
                copy.stream = target
                output.mux(copy)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 40
    assert probe(path).frame_count == 20 and probe(path).frame_rate == RATE
    assert [number_of(f) for f in read_frames(path)] == list(range(20))


@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(24), Fraction(15, 2)])
def test_a_constant_rate_is_exact(tmp_path, rate):
    for name in ("a.mp4", "a.mkv"):
        info = probe(encode(tmp_path / name, [numbered(i) for i in range(20)], rate=rate))
        assert info.frame_rate == rate and not info.variable


def test_a_variable_rate_is_seen_and_every_frame_comes_once(tmp_path):
    times = [0, 20, 60, 80, 200, 220, 300, 340, 380, 400]
    for name in ("a.mp4", "a.mkv"):
        frames = [numbered(i) for i in range(10)]
        path = encode(tmp_path / name, frames, times=times, options=B_FRAMES)
        info = probe(path)
        assert info.variable and info.frame_count == 10
        assert info.frame_rate == Fraction(9, Fraction(400, 1000))
        assert [number_of(f) for f in read_frames(path)] == list(range(10))


@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES])
def test_a_video_trimmed_by_an_edit_list_is_read_as_trimmed(tmp_path, options):
    path = encode(tmp_path / "a.mp4", [numbered(i) for i in range(50)], options=options)
    data = bytearray(path.read_bytes())
    # The edit list's one entry (ISO/IEC 14496-12, 8.6.6): 30 frames (its unit is a millisecond),
    # from the tenth on (its unit is the track's tick, of which a frame has 512).
    at = data.index(b"elst") + 12
    (start,) = struct.unpack(">i", data[at + 4 : at + 8])
    data[at : at + 8] = struct.pack(">Ii", 1200, start + 10 * 512)
    path.write_bytes(data)
    assert probe(path).frame_count == 30 and probe(path).frame_rate == RATE
    assert [number_of(f) for f in read_frames(path)] == list(range(10, 40))


# The display matrix's (a, b, c, d), and what a viewer does to the stored picture for it.
MATRICES = {
    "none": ((1, 0, 0, 1), lambda a: a),
    "quarter turn clockwise": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "half turn": ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
    "quarter turn anticlockwise": ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda a: a[::-1]),
    "transposed": ((0, 1, 1, 0), lambda a: a.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_rotation_flag_is_applied(tmp_path, name):
    matrix, upright = MATRICES[name]
    path = encode(tmp_path / "turned.mov", [arrow().repeat(2, 0).repeat(2, 1)] * 3)
    data = bytearray(path.read_bytes())
    # The track header's matrix, 40 bytes into the box (ISO/IEC 14496-12, 8.3.2, version 0).
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = upright(arrow().repeat(2, 0).repeat(2, 1))
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    for frame in read_frames(path):
        assert frame.shape == expected.shape and frame.flags.c_contiguous
        assert np.abs(frame.astype(int) - expected).mean() < 12


def test_non_square_pixels_are_shown_square(tmp_path):
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"aspect": "2/1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.mux(video.encode(av.VideoFrame.from_ndarray(numbered(5), format="rgb24")))
        output.mux(video.encode(None))
    assert (probe(path).width, probe(path).height) == (128, 48)
    (frame,) = read_frames(path)
    assert frame.shape == (48, 128, 3) and number_of(frame) == 5


def test_transparent_video_is_composited_over_white(tmp_path):
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[..., 1] = 100
    rgba[:, 32:, 3] = 255
    mov = encode(tmp_path / "alpha.mov", [rgba] * 3, codec="qtrle", pix_fmt="argb")
    for frame in read_frames(mov):
        assert frame[20, 10].tolist() == [255, 255, 255] and frame[20, 50].tolist() == [0, 100, 0]
    still = Image.fromarray(rgba)
    still.save(tmp_path / "alpha.gif", save_all=True, append_images=[still.rotate(180)])
    frame = next(read_frames(tmp_path / "alpha.gif"))
    assert frame[20, 10].tolist() == [255, 255, 255] and frame[20, 50].tolist() == [0, 100, 0]


def test_transparent_webm_is_composited_over_white(tmp_path):
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[..., 1] = 100
    rgba[:, 32:, 3] = 255
    path = encode(
        tmp_path / "alpha.webm",
        [rgba] * 5,
        codec="libvpx-vp9",
        pix_fmt="yuva420p",
        options={"auto-alt-ref": "0"},
    )
    frames = list(read_frames(path))
    assert len(frames) == 5 == probe(path).frame_count
    for frame in frames:
        assert np.abs(frame[20, 10].astype(int) - 255).max() < 4
        assert np.abs(frame[20, 50].astype(int) - [0, 100, 0]).max() < 6


def test_a_gif_of_varied_delays_is_read_as_pillow_reads_it(tmp_path):
    frames = [Image.fromarray(numbered(i)) for i in range(12)]
    path = tmp_path / "a.gif"
    delays = [40, 100, 40, 200] * 3
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delays, loop=0)
    info = probe(path)
    assert info.variable and info.frame_count == 12
    with Image.open(path) as reference:
        for index, frame in enumerate(read_frames(path)):
            reference.seek(index)
            assert np.array_equal(frame, np.array(reference.convert("RGB")))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize(("space", "matrix"), [("bt709", "ITU709"), ("smpte170m", "ITU601")])
def test_tagged_colours_are_read_right(tmp_path, pixel_format, space, matrix):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (201, 150, 120)]
    path = tmp_path / "colours.mp4"
    full = pixel_format.startswith("yuvj")
    with av.open(str(path), "w") as output:
        video = output.add_stream(
            "libx264",
            rate=25,
            options={"qp": "1", "colorspace": space, "color_range": "pc" if full else "tv"},
        )
        video.width = video.height = 32
        video.pix_fmt = pixel_format
        for colour in colours:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), colour, np.uint8), "rgb24")
            output.mux(
                video.encode(
                    frame.reformat(
                        format=pixel_format,
                        dst_colorspace=matrix,
                        dst_color_range="JPEG" if full else "MPEG",
                    )
                )
            )
        output.mux(video.encode(None))
    for frame, colour in zip(read_frames(path), colours, strict=True):
        assert np.abs(frame[16, 16].astype(int) - colour).max() <= 4


# ------------------------------------------------------------------ damage


def test_a_video_cut_short_says_how_much_of_it_is_there(tmp_path):
    whole = encode(
        tmp_path / "whole.mp4",
        [np.roll(astronaut()[:64, :64], i, axis=1) for i in range(60)],
        container_options={"movflags": "faststart"},
    ).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(MediaError, match=r"(\d+) of its 60 frames") as caught:
        probe(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    seen = 0
    with pytest.raises(MediaError, match=r"(\d+) of its 60 frames") as caught:
        for _ in read_frames(path):
            seen += 1
    assert 10 < seen < 60 and f" {seen} of its 60" in str(caught.value)


@pytest.mark.parametrize("name", ["a.webm", "a.mkv", "a.gif", "a.mov", "fragmented.mp4"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_no_container_is_cut_short_unnoticed(tmp_path, name, share):
    frames = [np.roll(astronaut()[:64, :64], i, axis=1) for i in range(40)]
    settings = {
        "a.webm": {"codec": "libvpx"},
        "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
        "a.mov": {"container_options": {"movflags": "faststart"}},
        "fragmented.mp4": {
            "container_options": {"movflags": "frag_keyframe+empty_moov"},
            "options": {"g": "10"},
        },
    }.get(name, {})
    path = encode(tmp_path / name, frames, **settings)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediaError, match="cut short"):
        probe(path)
    with pytest.raises(MediaError, match="cut short"):
        list(read_frames(path))


def test_what_stands_behind_the_last_box_is_no_cut(tmp_path):
    path = encode(tmp_path / "a.mp4", [numbered(i) for i in range(20)])
    for tail in (bytes(500), b"TAG" + b"a title" * 20):
        padded = tmp_path / "padded.mp4"
        padded.write_bytes(path.read_bytes() + tail)
        assert probe(padded).frame_count == 20 == len(list(read_frames(padded)))


def test_an_mp4_without_its_index_is_said_to_be_cut_short(tmp_path):
    path = encode(tmp_path / "a.mp4", [numbered(i) for i in range(30)])
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(MediaError, match="cut short: none of its frames"):
        probe(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")])
def test_a_damaged_middle_is_not_passed_over(tmp_path, name, codec):
    frames = [np.roll(astronaut()[:64, :64], i, axis=1) for i in range(40)]
    path = encode(tmp_path / name, frames, codec=codec, options={"bf": "0"})
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0)]
    damaged = path.read_bytes().replace(packets[20], bytes(len(packets[20])))
    path.write_bytes(damaged)
    seen = 0
    with pytest.raises(MediaError, match=r"(\d+) of its 40 frames") as caught:
        for _ in read_frames(path):
            seen += 1
    assert seen <= 20 and f" {seen} of its 40" in str(caught.value)


def audio_only(path):
    with av.open(str(path), "w") as output:
        audio = output.add_stream("aac", rate=48_000)
        audio.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("missing.mp4", lambda p: None, "no file"),
        ("folder.mp4", lambda p: p.mkdir(), "is a folder"),
        ("zero.mp4", lambda p: p.touch(), "empty (0 bytes)"),
        ("text.mp4", lambda p: p.write_text("hello\n" * 100), "not a video"),
        ("text.gif", lambda p: p.write_text("hello\n" * 100), "not a video"),
        ("sound.mp4", audio_only, "no video stream"),
    ],
)
@pytest.mark.parametrize("read", [probe, lambda p: next(read_frames(p))])
def test_an_unreadable_video_is_one_clear_line(tmp_path, name, make, says, read):
    path = tmp_path / name
    make(path)
    with pytest.raises(MediaError) as caught:
        read(path)
    text = str(caught.value)
    assert says in text and str(path) in text and "\n" not in text


def test_a_colon_in_the_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("take:2.mp4", [numbered(7)] * 3, frame_rate=RATE)
    assert [number_of(f) for f in read_frames("take:2.mp4")] == [7] * 3


# ------------------------------------------------------------------ writing


def test_a_clip_is_what_browsers_play(tmp_path):
    path = tmp_path / "clips" / "a.mp4"
    count = write_video(path, (numbered(i) for i in range(30)), frame_rate=RATE)
    assert count == 30 and os.listdir(path.parent) == ["a.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited range
        assert stream.frames == 30 and stream.average_rate == 25
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"colrnclx\x00\x01\x00\x01\x00\x01" in data


@pytest.mark.parametrize(
    "rate", [Fraction(25), Fraction(30_000, 1001), Fraction(30), 12, Fraction(10_000_019, 400_003)]
)
def test_count_order_and_rate_survive_a_round_trip(tmp_path, rate):
    path = tmp_path / "a.mp4"
    assert write_video(path, (numbered(i) for i in range(37)), frame_rate=rate) == 37
    info = probe(path)
    assert info.frame_count == 37 and not info.variable
    assert float(info.frame_rate) == pytest.approx(float(rate), rel=1e-5)
    if rate in (25, 30, 12, Fraction(30_000, 1001)):
        assert info.frame_rate == rate
    assert [number_of(f) for f in read_frames(path)] == list(range(37))


def test_colours_do_not_shift(tmp_path):
    rng = np.random.default_rng(0)
    colours = np.vstack([rng.integers(0, 256, (20, 3)), np.eye(3, dtype=int) * 255])
    path = tmp_path / "a.mp4"
    write_video(path, (np.full((32, 32, 3), c, np.uint8) for c in colours), frame_rate=RATE, crf=10)
    errors = [
        frame[16, 16].astype(int) - colour
        for frame, colour in zip(read_frames(path), colours, strict=True)
    ]
    assert np.abs(errors).max() <= 4
    assert abs(np.mean(errors)) < 0.4


def test_a_photograph_keeps_its_brightness(tmp_path):
    photo = astronaut()[:256, :256]
    write_video(tmp_path / "a.mp4", [photo] * 2, frame_rate=RATE)
    for frame in read_frames(tmp_path / "a.mp4"):
        difference = frame.astype(int) - photo
        assert np.abs(difference).mean() < 3
        assert abs(difference.mean()) < 0.3


@pytest.mark.parametrize("shape", [(33, 47), (33, 48), (32, 47)])
def test_odd_sizes_are_padded_with_the_edge(tmp_path, shape):
    image = astronaut()[: shape[0], : shape[1]]
    path = tmp_path / "a.mp4"
    write_video(path, [image] * 2, frame_rate=RATE, crf=5)
    frame = next(read_frames(path))
    height, width = shape
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frame[:height, :width].astype(int) - image).mean() < 4
    assert np.abs(frame[-1].astype(int) - frame[-2]).mean() < 4 or height % 2 == 0


def test_the_same_frames_give_the_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        frames = (np.roll(astronaut()[:64, :64], i, axis=1) for i in range(60))
        write_video(tmp_path / name, frames, frame_rate=RATE)
    code = (
        "import sys, numpy as np; from skimage.data import astronaut;"
        "from studykit.media.video import write_video;"
        "write_video(sys.argv[1], (np.roll(astronaut()[:64, :64], i, axis=1) for i in range(60)),"
        "frame_rate=25)"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code, tmp_path / "c.mp4"], check=True, cwd=root)
    first = (tmp_path / "a.mp4").read_bytes()
    assert first == (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


def tone(samples, rate):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * rate / len(samples)


@pytest.mark.parametrize(
    ("name", "codec", "carried"),
    [
        ("driving.mp4", "aac", "aac"),
        ("driving.mp4", "libmp3lame", "mp3"),
        ("driving.webm", "libopus", "aac"),
        ("driving.mkv", "flac", "aac"),
    ],
)
def test_the_sound_is_carried_over(tmp_path, name, codec, carried):
    video = "libvpx" if name.endswith("webm") else "libx264"
    frames = [numbered(i) for i in range(50)]
    driving = encode(tmp_path / name, frames, codec=video, sound=(codec, sine(2), 0))
    assert probe(driving).has_audio
    clip = tmp_path / "clip.mp4"
    assert write_video(clip, read_frames(driving), frame_rate=RATE, like=driving) == 50
    assert probe(clip).has_audio and probe(clip).frame_count == 50
    found, samples, rate, start = decode_sound(clip)
    assert found.startswith(carried)
    assert len(samples) / rate == pytest.approx(2.0, abs=0.08) and abs(start) < 0.06
    assert tone(samples, rate) == pytest.approx(440, abs=3)
    assert np.sqrt((samples**2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.08)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac")])
def test_the_sound_stays_in_step_with_the_frames(tmp_path, name, codec):
    click = np.zeros(96_000)
    click[48_000:48_010] = 0.9
    driving = encode(tmp_path / name, [numbered(i) for i in range(50)], sound=(codec, click, 0))
    write_video(tmp_path / "clip.mp4", read_frames(driving), frame_rate=RATE, like=driving)
    _, samples, rate, start = decode_sound(tmp_path / "clip.mp4")
    assert start + np.abs(samples).argmax() / rate == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac")])
def test_a_part_of_a_video_keeps_its_frames_and_its_sound(tmp_path, name, codec):
    """Of 3 s with a click in the middle of each, those from 0.8 s to 1.8 s."""
    clicks = np.zeros(144_000)
    for second in (0.5, 1.5, 2.5):
        clicks[round(second * 48_000) :][:10] = 0.9
    driving = encode(tmp_path / name, [numbered(i) for i in range(75)], sound=(codec, clicks, 0))
    taken = frames_between(probe(driving).times, 0.8, 1.8)
    assert taken == range(20, 45)
    frames = list(read_frames(driving, taken.start, taken.stop))
    np.testing.assert_array_equal(frames, list(read_frames(driving))[20:45])
    clip = tmp_path / "clip.mp4"
    write_video(clip, frames, frame_rate=RATE, like=driving, like_from=taken.start)
    assert [number_of(frame) for frame in read_frames(clip)] == list(taken)
    _, samples, rate, start = decode_sound(clip)
    loudness, at = np.abs(samples), start + np.arange(len(samples)) / rate
    assert at[loudness.argmax()] == pytest.approx(0.7, abs=0.002)
    assert loudness[abs(at - 0.7) > 0.05].max() < loudness.max() / 10
    assert start + len(samples) / rate == pytest.approx(1.0, abs=0.06)


def test_a_part_of_a_variable_rate_is_taken_by_each_frames_time(tmp_path):
    times = [0, 40, 200, 240, 600, 640]
    driving = encode(tmp_path / "a.mkv", [numbered(i) for i in range(6)], times=times)
    assert frames_between(probe(driving).times, 0.04, 0.6) == range(1, 4)
    assert frames_between(probe(driving).times, 0.21, None) == range(3, 6)
    clip = tmp_path / "clip.mp4"
    write_video(clip, read_frames(driving, 3), frame_rate=RATE, like=driving, like_from=3)
    assert shown_times(clip) == [0, 360, 400]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac")])
def test_the_sound_is_cut_to_the_frames(tmp_path, name, codec):
    driving = encode(tmp_path / name, [numbered(i) for i in range(100)], sound=(codec, sine(6), 0))
    clip = tmp_path / "clip.mp4"
    write_video(clip, (numbered(i) for i in range(25)), frame_rate=RATE, like=driving)
    _, samples, rate, _ = decode_sound(clip)
    assert len(samples) / rate == pytest.approx(1.0, abs=0.08)
    with av.open(str(clip)) as container:
        assert container.duration / 1e6 == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac")])
def test_sound_that_starts_late_stays_late(tmp_path, name, codec):
    driving = encode(
        tmp_path / name, [numbered(i) for i in range(50)], sound=(codec, sine(1.5), 0.5)
    )
    clip = tmp_path / "clip.mp4"
    write_video(clip, read_frames(driving), frame_rate=RATE, like=driving)
    assert decode_sound(clip)[3] == pytest.approx(decode_sound(driving)[3], abs=0.03)
    assert decode_sound(clip)[3] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "flac")])
def test_sound_is_read_from_a_frame_on(tmp_path, name, codec):
    """A click at 1.5 s of sound that itself begins at 0.5 s, from the frame at 0.8 s on."""
    click = np.zeros(96_000)
    click[48_000:48_010] = 0.9
    path = encode(tmp_path / name, [numbered(i) for i in range(75)], sound=(codec, click, 0.5))
    for first in (0, 20):
        sound = np.concatenate(list(read_sound(path, first=first)))
        assert sound.dtype == np.float32
        assert np.abs(sound).argmax() / 16_000 == pytest.approx(1.5 - first / 25, abs=0.004)
        assert len(sound) / 16_000 == pytest.approx(2.5 - first / 25, abs=0.1)
    before = np.concatenate(list(read_sound(path)))[: 16_000 * 4 // 10]
    assert np.abs(before).max() < 0.01


def test_sound_is_read_as_loud_and_high_as_it_is(tmp_path):
    path = encode(tmp_path / "a.mkv", [numbered(0)] * 25, sound=("flac", sine(1), 0))
    sound = np.concatenate(list(read_sound(path, rate=24_000)))
    assert len(sound) == pytest.approx(24_000, abs=50)
    assert tone(sound, 24_000) == pytest.approx(440, abs=3)
    assert np.sqrt((sound**2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_a_video_without_sound_has_none_to_read(tmp_path):
    assert list(read_sound(encode(tmp_path / "a.mp4", [numbered(0)] * 5))) == []


def test_reading_sound_can_stop_early_and_what_is_no_video_is_an_error(tmp_path):
    path = encode(tmp_path / "a.mkv", [numbered(0)] * 50, sound=("flac", sine(2), 0))
    for _ in range(3):
        sound = read_sound(path)
        assert len(next(sound)) > 0
        sound.close()
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"b\.mp4"):
        next(read_sound(tmp_path / "b.mp4"))


def test_a_driving_without_sound_gives_a_silent_clip(tmp_path):
    driving = encode(tmp_path / "a.mp4", [numbered(i) for i in range(10)])
    write_video(tmp_path / "b.mp4", read_frames(driving), frame_rate=RATE, like=driving)
    assert not probe(tmp_path / "b.mp4").has_audio


def test_a_variable_rate_keeps_every_frames_time(tmp_path):
    times = [0, 20, 60, 80, 200, 220, 300, 340, 380, 400]
    driving = encode(tmp_path / "a.mp4", [numbered(i) for i in range(10)], times=times)
    rate = probe(driving).frame_rate
    clip = tmp_path / "clip.mp4"
    assert write_video(clip, read_frames(driving), frame_rate=rate, like=driving) == 10
    assert shown_times(clip) == times
    assert [number_of(f) for f in read_frames(clip)] == list(range(10))
    assert probe(clip).variable


def test_frames_beyond_the_drivings_last_go_on_at_the_rate(tmp_path):
    times = [0, 20, 60, 80, 200]
    driving = encode(tmp_path / "a.mkv", [numbered(i) for i in range(5)], times=times)
    clip = tmp_path / "clip.mp4"
    write_video(clip, (numbered(i) for i in range(8)), frame_rate=RATE, like=driving)
    assert shown_times(clip) == [*times, 240, 280, 320]


def failing(after, error):
    for index in range(after):
        yield numbered(index)
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, MediaError("driving"), ZeroDivisionError])
@pytest.mark.parametrize("after", [0, 3, 80])
def test_an_error_among_the_frames_passes_and_leaves_nothing(tmp_path, error, after):
    (tmp_path / "old.mp4").write_bytes(b"kept")
    with pytest.raises(error if isinstance(error, type) else type(error)):
        write_video(tmp_path / "old.mp4", failing(after, error), frame_rate=RATE)
    assert os.listdir(tmp_path) == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"kept"


def test_what_cannot_be_written_is_one_clear_line(tmp_path):
    with pytest.raises(MediaError, match="no frames"):
        write_video(tmp_path / "a.mp4", [], frame_rate=RATE)
    with pytest.raises(MediaError, match=r"end it in \.mp4"):
        write_video(tmp_path / "a.webm", [numbered(0)], frame_rate=RATE)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MediaError, match="can't be written") as caught:
        write_video(tmp_path / "file" / "a.mp4", [numbered(0)], frame_rate=RATE)
    assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match="no file"):
        write_video(tmp_path / "a.mp4", [numbered(0)], frame_rate=RATE, like=tmp_path / "b.mp4")
    with pytest.raises(ValueError, match="frame 1"):
        write_video(tmp_path / "a.mp4", [numbered(0), numbered(0)[:20]], frame_rate=RATE)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere"
)
def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    for write in (
        lambda p: write_video(p / "a.mp4", [numbered(0)], frame_rate=RATE),
        lambda p: write_image(p / "a.png", arrow()),
    ):
        with pytest.raises(MediaError, match="can't be written: Permission denied"):
            write(tmp_path / "locked")


def test_a_full_disk_is_one_clear_line(tmp_path):
    resource = pytest.importorskip("resource")
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from studykit.errors import MediaError\n"
        "from studykit.media.video import write_video\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "noise = np.random.default_rng(0)\n"
        "frames = (noise.integers(0, 255, (128, 128, 3), np.uint8) for _ in range(90))\n"
        "try:\n"
        "    write_video(sys.argv[1], frames, frame_rate=25)\n"
        "except MediaError as error:\n"
        "    print(error)\n"
    )
    assert resource is not None
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.mp4"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert "can't be written" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == []


def test_memory_does_not_grow_with_the_length(tmp_path):
    code = (
        "import sys, resource, numpy as np\n"
        "from studykit.media.video import write_video, read_frames, probe\n"
        "frames = lambda n: (np.roll(base, i, axis=1) for i in range(n))\n"
        "base = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)\n"
        "def peak(n):\n"
        "    write_video(sys.argv[1], frames(n), frame_rate=25)\n"
        "    write_video(sys.argv[1] + '.mp4', read_frames(sys.argv[1]), frame_rate=25,\n"
        "                like=sys.argv[1])\n"
        "    assert probe(sys.argv[1] + '.mp4').frame_count == n\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(peak(100), peak(1000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.mp4"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    short, long = map(int, done.stdout.split())
    # 900 more frames of 64 x 64 are 11,000 kB as they are read.
    assert long - short < 4000


@pytest.mark.parametrize(
    "use",
    [
        probe,
        lambda path: next(read_frames(path)),
        lambda path: write_video(
            path.with_name("b.mp4"), read_frames(path), frame_rate=RATE, like=path
        ),
    ],
    ids=["probe", "first frame", "sound longer than the frames"],
)
def test_a_file_leaves_nothing_in_memory(tmp_path, held_bytes, use):
    path = encode(tmp_path / "a.mp4", [arrow()] * 3, sound=("aac", sine(0.5), 0))

    def held(times):
        for _ in range(times):
            use(path)
        return held_bytes()

    before = held(60)  # until then a little is taken once, as for the arenas of threads
    # A packet that is not freed is 150 bytes.
    assert (held(60) - before) / 60 < 75


def test_reading_holds_one_frame(tmp_path):
    path = encode(tmp_path / "a.mp4", [astronaut()] * 60)
    tracemalloc.start()
    try:
        for _ in read_frames(path):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * astronaut().nbytes


@pytest.mark.parametrize("side", [64, 96, 128, 192])
def test_the_same_frames_give_the_same_bytes_whatever_lies_in_memory(
    tmp_path: Path, side: int
) -> None:
    picture, rng = Image.fromarray(astronaut()[:400, :400]), np.random.default_rng(0)
    boxes = [(8 * (i % 3), 8 * (i % 2), 400 - 8 * (i % 4), 400) for i in range(14)]
    frames = [np.asarray(picture.resize((side, side), box=box)) for box in boxes]
    written = set()
    for _ in range(10):
        left = [rng.bytes(int(size)) for size in rng.choice((3_000, 9_000, 20_000, 70_000), 60)]
        del left  # memory that the encoder may get as it is
        write_video(tmp_path / "a.mp4", iter(frames), frame_rate=Fraction(25))
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1

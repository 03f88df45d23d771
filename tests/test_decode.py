"""Formats, damage and sound: what is read is what it says it is, and what is damaged is said."""

import io
import random
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage.data import astronaut

from studykit.errors import MediaError
from studykit.media.squares import is_video, open_driving
from studykit.media.video import probe, read_frames, read_image, write_video

FACE = astronaut()[:144, 130:322]
FRAMES = [np.ascontiguousarray(np.roll(FACE, 2 * i, axis=1)) for i in range(30)]


def encode(path, codec="libx264", pix_fmt="yuv420p", frames=FRAMES, options=None, sound=""):
    """Write a video of 25 frames a second with PyAV alone; its sound is a tone of 440 Hz."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25, options=options or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pix_fmt
        if sound:
            audio = output.add_stream(sound, rate=48_000)
            audio.bit_rate = 128_000
            audio.codec_context.layout = "stereo"
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
            if sound:
                samples = (np.arange(1920) + index * 1920) / 48_000
                wave = 0.3 * np.sin(2 * np.pi * 440 * samples).astype(np.float32)
                chunk = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
                chunk.sample_rate, chunk.pts = 48_000, index * 1920
                chunk.time_base = Fraction(1, 48_000)
                resampler = av.AudioResampler(audio.codec_context.format, "stereo", 48_000)
                output.mux(audio.encode(resampler.resample(chunk)[0]))
        output.mux(video.encode(None))
        if sound:
            output.mux(audio.encode(None))
    return path


# ------------------------------------------------------------------ formats

POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\n"
    b"(victim.txt) deletefile\nshowpage\n"
)


@pytest.mark.parametrize("name", ["face.png", "face.eps", "face.jpg"])
def test_postscript_is_no_image_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_bytes(POSTSCRIPT)
    with pytest.raises(MediaError, match="not an image that can be read"):
        read_image(tmp_path / name)


PLAYLISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile real.mp4\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.mp4\n#EXT-X-ENDLIST\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "text.txt": "a line of text\n" * 200,
    "art.ans": "\x1b[1;31mred\x1b[0m\n" * 50,
    "captions.mp4": "1\n00:00:00,000 --> 00:00:02,000\nHello\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_text_is_no_video_and_opens_no_other_file(tmp_path, name):
    encode(tmp_path / "real.mp4")
    (tmp_path / name).write_text(PLAYLISTS[name])
    for read in (probe, lambda path: next(read_frames(path))):
        with pytest.raises(MediaError, match="not a video that can be read"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "gif", "tiff", "bmp", "tga"])
def test_a_still_image_is_no_driving(tmp_path, suffix):
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(FACE).save(path)
    misnamed = path.rename(tmp_path / "still.mp4")
    assert np.abs(read_image(misnamed).astype(int) - FACE).mean() < 12
    assert not is_video(misnamed)
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(MediaError, match="is a still image"):
            read(misnamed)


def test_a_video_is_no_source(tmp_path):
    path = encode(tmp_path / "talk.mp4").rename(tmp_path / "talk.png")
    with pytest.raises(MediaError, match="is a video: a source is a still image"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["gif", "png", "avif"])
def test_an_animation_is_a_driving_and_its_first_frame_a_source(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    stills = [Image.fromarray(frame) for frame in FRAMES[:10]]
    stills[0].save(path, save_all=True, append_images=stills[1:], duration=40)
    assert is_video(path) and probe(path).frame_count == 10
    frames = list(read_frames(path))
    for index in (0, 9):
        assert np.abs(frames[index].astype(int) - FRAMES[index]).mean() < 12
    assert np.abs(read_image(path).astype(int) - frames[0]).mean() < 3
    assert open_driving(path, name="m", size=64, crop="centre")[0].frame_count == 10


def test_an_animated_webp_is_refused_as_a_driving(tmp_path):
    path = tmp_path / "moving.webp"
    stills = [Image.fromarray(frame) for frame in FRAMES[:3]]
    stills[0].save(path, save_all=True, append_images=stills[1:], duration=40)
    with pytest.raises(MediaError, match="animated WebP, which can't be read as a video"):
        probe(path)


def test_an_avif_is_read_as_it_was_written(tmp_path):
    Image.fromarray(FACE).save(tmp_path / "a.avif", quality=95)
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - FACE).mean() < 3


def heic(path, picture, turned=False):
    """Write an image as telephones do (ISO/IEC 23008-12): HEVC of one frame, in boxes."""
    encode(
        path.with_suffix(".mp4"),
        "libx265",
        frames=[picture],
        options={"x265-params": "log-level=0:keyint=1", "crf": "8", "preset": "ultrafast"},
    )
    data = path.with_suffix(".mp4").read_bytes()

    def found(kind):
        at = data.index(kind) - 4
        return data[at : at + struct.unpack(">I", data[at : at + 4])[0]]

    def box(kind, content, full=None):
        content = (b"" if full is None else struct.pack(">I", full)) + content
        return struct.pack(">I", 8 + len(content)) + kind + content

    height, width = picture.shape[:2]
    coded = found(b"mdat")[8:]
    ispe = box(b"ispe", struct.pack(">II", width, height), 0)
    turn = box(b"irot", b"\3") if turned else b""  # three quarters anticlockwise
    used = (1 | 0x80, 2, 3) if turned else (1 | 0x80, 2)
    ipma = box(b"ipma", struct.pack(">IHB", 1, 1, len(used)) + bytes(used), 0)
    infe = box(b"infe", struct.pack(">HH", 1, 0) + b"hvc1\0", 2 << 24)
    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def meta(offset):
        place = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, offset, len(coded))
        return box(
            b"meta",
            box(b"hdlr", bytes(4) + b"pict" + bytes(13), 0)
            + box(b"pitm", struct.pack(">H", 1), 0)
            + box(b"iloc", place, 0)
            + box(b"iinf", struct.pack(">H", 1) + infe, 0)
            + box(b"iprp", box(b"ipco", found(b"hvcC") + ispe + turn) + ipma),
            0,
        )

    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + box(b"mdat", coded))
    return path


@pytest.mark.parametrize("turned", [False, True])
def test_a_heic_is_read_upright(tmp_path, turned):
    pytest.importorskip("pi_heif")
    read = read_image(heic(tmp_path / "IMG_0001.HEIC", FACE, turned)).astype(int)
    assert np.abs(read - (np.rot90(FACE, -1) if turned else FACE)).mean() < 5
    with pytest.raises(MediaError, match=r"is a still image \(HEIF\)"):
        probe(tmp_path / "IMG_0001.HEIC")


def test_a_heic_without_its_package_names_it(tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100))
    try:
        import pi_heif  # noqa: F401
    except ImportError:
        with pytest.raises(MediaError, match='pip install "pi-heif'):
            read_image(path)
        with pytest.raises(MediaError, match="is a still image"):
            probe(path)


def test_colours_of_another_profile_become_those_of_srgb(tmp_path):
    """P3's red is redder than any of sRGB's, a grey is the same in both."""
    swatch = np.array([[[234, 51, 35], [128, 128, 128], [117, 251, 76]]], np.uint8).repeat(8, 1)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(display_p3()))
    Image.fromarray(swatch).save(tmp_path / "p3.png", icc_profile=profile.tobytes())
    # Apple's rendition of sRGB's pure red and green in P3 (ColorSync).
    wanted = np.array([[255, 0, 0], [128, 128, 128], [0, 255, 0]])
    read = read_image(tmp_path / "p3.png")[0, [2, 10, 18]].astype(int)
    assert np.abs(read - wanted).max() <= 12
    Image.fromarray(swatch).save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert (read_image(tmp_path / "broken.png") == swatch).all()


def display_p3():
    """Make an ICC profile of version 2 (ICC.1:2001): P3's primaries, adapted to D50, gamma 2.2."""

    def number(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ " + bytes(4) + b"".join(map(number, values))

    text = b"P3 for a test\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.51512, 0.24120, -0.00105),
        b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.15710, 0.06657, 0.78407),
        **dict.fromkeys(
            (b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + bytes(2)
        ),
    }
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack(">I4xI", size, 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header = (header + bytes(28) + number(0.9642) + number(1.0) + number(0.8249)).ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + table + body


def test_a_bomb_is_refused_before_it_bursts(tmp_path):
    frames = [Image.new("P", (12_000, 12_000), colour) for colour in (0, 1)]
    frames[0].save(tmp_path / "bomb.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="frames of more than 89 million pixels"):
        probe(tmp_path / "bomb.gif")
    still = [np.zeros((4096, 4096, 3), np.uint8)]
    path = encode(tmp_path / "still.mp4", frames=still * 2, options={"preset": "ultrafast"})
    data = path.read_bytes()
    # One sample, named 400,000 times (ISO/IEC 14496-12, 8.6.1 and 8.7).
    for box, at, value in ((b"stts", 12, 400_000), (b"stsz", 12, 400_000)):
        place = data.index(box) + at
        data = data[:place] + struct.pack(">I", value) + data[place + 4 :]
    path.write_bytes(data)
    with pytest.raises(MediaError):
        probe(path)


# ------------------------------------------------------------------ damage


def damaged(path, target, seed, count=40):
    """Change bytes inside the picture data of an mp4."""
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    at = data.index(b"mdat") + 4
    (length,) = struct.unpack(">I", data[at - 8 : at - 4])
    for _ in range(count):
        data[rng.randrange(at, at + length - 8)] = rng.randrange(256)
    target.write_bytes(data)
    return target


def test_damaged_picture_data_is_refused_with_counts(tmp_path):
    whole = encode(tmp_path / "whole.mp4")
    for seed in range(30):
        path = damaged(whole, tmp_path / "damaged.mp4", seed)
        with pytest.raises(MediaError, match=r"damaged") as caught:
            list(read_frames(path))
        assert "frames" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("m.ts", "mpeg2video", "yuv420p"),
        ("w.wmv", "wmv2", "yuv420p"),
        ("f.mkv", "ffv1", "yuv420p"),
        ("p.mov", "prores_ks", "yuv422p10le"),
    ],
)
def test_what_any_decoder_reports_is_refused(tmp_path, name, codec, pix_fmt):
    path = encode(tmp_path / name, codec, pix_fmt)
    assert len(list(read_frames(path))) == 30
    data, rng = bytearray(path.read_bytes()), random.Random(1)
    for _ in range(len(data) // 50):
        data[rng.randrange(len(data) // 3, len(data) * 5 // 6)] = rng.randrange(256)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="damaged"):
        list(read_frames(path))


OPEN_GROUPS = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"


@pytest.mark.parametrize(("codec", "key"), [("libx264", "x264-params"), ("libx265", "x265-params")])
@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_open_groups_are_no_damage_also_where_the_file_begins_with_one(tmp_path, name, codec, key):
    quiet = ":log-level=0" if codec == "libx265" else ""
    path = encode(tmp_path / name, codec, options={key: OPEN_GROUPS + quiet})
    assert probe(path).frame_count == 30 == len(list(read_frames(path)))
    cut = tmp_path / f"cut-{name}"
    with av.open(str(path)) as source, av.open(str(cut), "w") as output:
        target, keys = output.add_stream_from_template(source.streams.video[0]), 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe
            if packet.size and keys >= 2:
                packet.stream = target
                output.mux(packet)
    info = probe(cut)
    assert info.frame_count == 18 == len(list(read_frames(cut)))
    lost = "its first 3 frames need others that are not there: left out"
    assert info.notes in ((), (lost,))


def test_a_transport_stream_that_begins_anywhere_begins_with_its_first_whole_frame(tmp_path):
    path = encode(tmp_path / "a.ts", options={"g": "12"})
    path.write_bytes(path.read_bytes()[188 * 40 :])
    info = probe(path)
    assert 6 <= info.frame_count < 30 and "left out" in info.notes[0]
    assert len(list(read_frames(path))) == info.frame_count


# ------------------------------------------------------------------ sound


def tone_of(path):
    """Return how long a clip's sound is, its tone in hertz and its mean power."""
    with av.open(str(path)) as container:
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return len(samples) / rate, spectrum.argmax() * rate / len(samples), (samples**2).mean() ** 0.5


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [
        ("a.wmv", "wmv2", "wmav2"),
        ("a.avi", "mpeg4", "ac3"),
        ("a.ts", "libx264", "aac"),
        ("a.ts", "mpeg2video", "mp2"),
        ("a.mov", "libx264", "pcm_s16le"),
    ],
)
def test_sound_of_any_kind_is_carried(tmp_path, name, codec, sound):
    driving, notes = encode(tmp_path / name, codec, sound=sound), []
    clip = tmp_path / "clip.mp4"
    write_video(clip, read_frames(driving), frame_rate=25, like=driving, notes=notes)
    seconds, tone, power = tone_of(clip)
    assert seconds == pytest.approx(1.2, abs=0.05) and tone == pytest.approx(440, abs=2)
    assert power == pytest.approx(0.3 / 2**0.5, rel=0.05) and notes == []


def test_pictures_and_sound_go_on_where_their_times_restart(tmp_path):
    once = encode(tmp_path / "once.ts", sound="aac").read_bytes()
    driving, clip = tmp_path / "twice.ts", tmp_path / "clip.mp4"
    driving.write_bytes(once + once)
    info = probe(driving)
    assert info.frame_count == 60 and info.frame_rate == 25 and not info.variable
    assert write_video(clip, read_frames(driving), frame_rate=25, like=driving) == 60
    seconds, tone, _ = tone_of(clip)
    assert seconds == pytest.approx(2.4, abs=0.06) and tone == pytest.approx(440, abs=2)


def test_sound_that_cannot_be_carried_is_a_note_and_no_lost_clip(tmp_path):
    driving, clip, notes = encode(tmp_path / "a.mkv", sound="flac"), tmp_path / "clip.mp4", []
    data = driving.read_bytes()
    driving.write_bytes(data.replace(b"A_FLAC", b"A_NONE"))
    assert "unknown kind" in probe(driving).notes[0]
    assert write_video(clip, read_frames(driving), frame_rate=25, like=driving, notes=notes) == 30
    assert not probe(clip).has_audio

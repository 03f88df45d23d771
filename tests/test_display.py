"""How frames are shown: HDR as SDR, without combs, of one size, with every matrix and range."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from studykit.media.display import to_sdr
from studykit.media.video import probe, read_frames, write_video

PHOTO = astronaut()[:288, 100:484]
PQ, HLG, BT2020, BT709 = 16, 18, 9, 1

# ------------------------------------------------------------------ HDR


def pq(light):
    """SMPTE ST 2084's inverse EOTF, as the standard writes it, of cd/m2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    y = (np.asarray(light, float) / 10_000) ** m1
    return ((c1 + c2 * y) / (1 + c3 * y)) ** m2


# Levels of PQ from tables: BT.2408-7, table 1 (HDR reference white is 58 % PQ, 75 % HLG).
def test_reference_white_lies_where_the_standards_put_it():
    assert pq(203) == pytest.approx(0.58, abs=0.002)
    grey = np.full((1, 3), 0.5807)
    from_pq = to_sdr(grey, PQ, BT709, 10_000)
    from_hlg = to_sdr(np.full((1, 3), 0.75), HLG, BT709, 1000)
    # Both are 203 cd/m2: what a curve to a peak of 1000 makes of it is the same.
    assert np.abs(to_sdr(grey, PQ, BT709, 1000) - from_hlg).max() < 0.005
    assert (from_pq < from_hlg).all()


@pytest.mark.parametrize("light", [1, 5, 20, 50, 90])
def test_what_sdr_can_show_keeps_its_light(light):
    """Below the knee of BT.2390's curve, SDR's light is HDR's, with white at 203 cd/m2."""
    shown = to_sdr(np.full((1, 3), pq(light)), PQ, BT709, 1000)
    assert 203 * shown[0, 0] ** 2.4 == pytest.approx(light, rel=0.001)


def test_highlights_are_compressed_and_keep_their_order_and_hue():
    levels = np.linspace(pq(90), pq(1000), 50)
    shown = to_sdr(levels[:, None].repeat(3, 1), PQ, BT709, 1000)[:, 0]
    assert (np.diff(shown) > 0).all() and shown[-1] == pytest.approx(1, abs=0.001)
    # BT.2390-11, 5.4.1, worked through by hand for 203 of 1000 cd/m2.
    top, white = pq(1000), pq(203) / pq(1000)
    knee = 1.5 * white - 0.5
    t = (white - knee) / (1 - knee)
    e = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
    e = (e + (-2 * t**3 + 3 * t**2) * white) * top
    found = to_sdr(np.full((1, 3), pq(203)), PQ, BT709, 1000)[0, 0]
    assert pq(203 * found**2.4) == pytest.approx(e, abs=0.001)
    warm = np.array([[800.0, 400.0, 200.0]])
    red, green, blue = to_sdr(pq(warm), PQ, BT709, 1000)[0] ** 2.4
    assert red / green == pytest.approx(2, rel=0.01) and green / blue == pytest.approx(2, rel=0.01)


def test_a_grey_stays_grey_and_primaries_are_those_of_bt709():
    grey = to_sdr(np.full((1, 3), 0.4), HLG, BT2020, 1000)[0]
    assert np.ptp(grey) < 0.001
    # BT.709's red in BT.2020's primaries (BT.2087-0, table 4), 60 cd/m2.
    red = pq(60 * np.array([[0.6274, 0.0691, 0.0164]]))
    shown = to_sdr(red, PQ, BT2020, 1000)[0] ** 2.4 * 203
    assert shown[0] == pytest.approx(60, rel=0.01) and shown[1:].max() < 0.5


def hdr(path, picture, count, transfer, turned=False, sound=0, rate=Fraction(30_000, 1001)):
    """Write an SDR picture that moves as HDR, white at 203 cd/m2: 10 bits, BT.2020."""
    to_2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    )
    names = {PQ: "smpte2084", HLG: "arib-std-b67"}
    light = 203 * (picture / 255) ** 2.4 @ to_2020.T
    signal = pq(light) if transfer == PQ else hlg(light)
    deep = np.round(signal * 65535).astype(np.uint16)
    with av.open(str(path), "w") as output:
        video = output.add_stream(
            "libx265",
            rate=rate,
            options={"x265-params": "log-level=0:pools=1", "preset": "ultrafast", "crf": "8"},
        )
        video.height, video.width = picture.shape[:2]
        video.pix_fmt = "yuv420p10le"
        video.codec_context.options |= {
            "color_primaries": "bt2020",
            "colorspace": "bt2020nc",
            "color_trc": names[transfer],
            "color_range": "tv",
        }
        audio = output.add_stream("aac", rate=48_000) if sound else None
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(deep, index, axis=1), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.time_base = index, 1 / rate
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for start in range(0, round(sound * 48_000), 48_000):
            wave = 0.3 * np.sin(2 * np.pi * 440 * (np.arange(48_000) + start) / 48_000)
            chunk = av.AudioFrame.from_ndarray(
                np.stack([wave, wave]).astype(np.float32), "fltp", "stereo"
            )
            chunk.sample_rate, chunk.pts, chunk.time_base = 48_000, start, Fraction(1, 48_000)
            output.mux(audio.encode(chunk))
        if sound:
            output.mux(audio.encode(None))
    if turned:
        turn(path)
    return path


def turn(path):
    """Set the video track's matrix to a quarter turn clockwise (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)


def hlg(light):
    """BT.2100's inverse OOTF and OETF for a display of 1000 cd/m2."""
    luminance = light @ np.array([0.2627, 0.6780, 0.0593])
    scene = light / 1000 * np.maximum(luminance / 1000, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    low = np.sqrt(3 * np.maximum(scene, 0))
    return np.where(scene <= 1 / 12, low, a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


@pytest.mark.parametrize(("transfer", "kind"), [(PQ, "PQ"), (HLG, "HLG")])
def test_an_hdr_video_looks_as_it_did_in_sdr(tmp_path, transfer, kind):
    path = hdr(tmp_path / "a.mkv", PHOTO, 2, transfer)
    assert f"HDR ({kind}): tone-mapped to SDR" in probe(path).notes[0]
    frame = next(read_frames(path)).astype(int)
    dark = PHOTO.max(axis=2) < 160  # below the knee
    assert np.abs(frame - PHOTO)[dark].mean() < 4
    assert abs((frame - PHOTO)[dark].mean()) < 1
    bright = to_sdr(pq(203 * (PHOTO / 255) ** 2.4), PQ, BT709, 1000) * 255
    assert np.abs(frame - bright).mean() < 4
    assert frame.std() > 0.85 * PHOTO.std()


def test_a_telephones_portrait_video_is_whole(tmp_path):
    """Rotated, HLG, 29.97 frames a second, 40 s of sound: frames, rate, sound and picture."""
    picture = np.ascontiguousarray(PHOTO[20:164:2, 20:212:2])
    path = hdr(tmp_path / "IMG_0001.MOV", picture, 1199, HLG, turned=True, sound=40)
    info = probe(path)
    assert (info.width, info.height) == (72, 96)
    assert info.frame_rate == Fraction(30_000, 1001) and info.frame_count == 1199
    assert info.has_audio and not info.variable
    clip, notes = tmp_path / "clip.mp4", []
    frames = read_frames(path, notes=notes)
    assert write_video(clip, frames, frame_rate=info.frame_rate, like=path, notes=notes) == 1199
    assert notes == ["HDR (HLG): tone-mapped to SDR (BT.2390)"]
    made = probe(clip)
    assert made.frame_count == 1199 and made.frame_rate == info.frame_rate and made.has_audio
    last = None
    for index, last in enumerate(read_frames(clip)):
        if index in (0, 600):
            wanted = np.rot90(np.roll(picture, index, axis=1), -1)
            dark = wanted.max(axis=2) < 160
            assert np.abs(last.astype(int) - wanted)[dark].mean() < 8
    assert last is not None
    with av.open(str(clip)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(sound) / 48_000 == pytest.approx(40.0, abs=0.06)
    second = sound[39 * 48_000 : 40 * 48_000 - 2000]
    spectrum = np.abs(np.fft.rfft(second * np.hanning(len(second))))
    assert spectrum.argmax() * 48_000 / len(second) == pytest.approx(440, abs=2)


# ------------------------------------------------------------------ sizes, combs, matrices


def test_a_size_that_changes_is_fitted_into_the_first_and_never_squashed(tmp_path):
    parts = []
    for width, height in ((192, 144), (144, 192), (96, 72)):
        parts.append(tmp_path / f"{width}.ts")
        with av.open(str(parts[-1]), "w") as output:
            video = output.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            disc = np.zeros((height, width, 3), np.uint8)
            rows, columns = np.mgrid[:height, :width]
            radius = min(width, height) // 3
            disc[np.hypot(rows - height / 2, columns - width / 2) < radius] = 255
            for _ in range(5):
                output.mux(video.encode(av.VideoFrame.from_ndarray(disc, "rgb24")))
            output.mux(video.encode(None))
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    notes: list[str] = []
    frames = list(read_frames(path, notes=notes))
    assert len(frames) == 15 == probe(path).frame_count
    assert {frame.shape for frame in frames} == {(144, 192, 3)}
    assert notes == ["its frames change their size: they are fitted into the first one's"]
    for frame, diameter in ((frames[2], 96), (frames[7], 72), (frames[12], 96)):
        lit = frame.max(axis=2) > 127
        assert lit.any(axis=0).sum() == pytest.approx(diameter, abs=3)
        assert lit.any(axis=1).sum() == pytest.approx(diameter, abs=3)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.ts", "mpeg2video", {"flags": "+ildct+ilme", "b": "8000000"}),
        ("a.mp4", "libx264", {"x264-params": "tff=1:interlaced=1", "crf": "5"}),
    ],
)
def test_an_interlaced_video_is_deinterlaced_and_keeps_its_frames(tmp_path, name, codec, options):
    """A bar that moves between the fields shows combs where they are woven."""

    def field(moment):
        picture = np.full((144, 192, 3), 40, np.uint8)
        picture[:, 20 + 6 * moment : 60 + 6 * moment] = 220
        return picture

    woven = []
    for index in range(10):
        frame = field(2 * index)
        frame[1::2] = field(2 * index + 1)[1::2]
        woven.append(frame)
    path = tmp_path / name
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 192, 144, "yuv420p"
        for frame in woven:
            output.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        output.mux(video.encode(None))
    assert "deinterlaced" in probe(path).notes[0]
    frames = list(read_frames(path))
    assert len(frames) == 10 == probe(path).frame_count

    def combs(frame):
        grey = frame[20:-20].mean(axis=2)
        return np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).mean()

    assert combs(woven[5]) > 10
    for index, frame in enumerate(frames):
        assert combs(frame) < 3
        middle = frame[72].mean(axis=1) > 130
        assert np.flatnonzero(middle)[0] == pytest.approx(20 + 12 * index, abs=7)


@pytest.mark.parametrize(("size", "matrix"), [((64, 48), 5), ((1280, 720), 1)])
def test_a_video_that_names_no_matrix_has_that_of_its_size(tmp_path, size, matrix):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = *size, "yuv444p"
        for colour in colours:
            picture = np.full((size[1], size[0], 3), colour, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame = frame.reformat(format="yuv444p", dst_colorspace=matrix)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    for frame, colour in zip(read_frames(path), colours, strict=True):
        assert np.abs(frame[24, 24].astype(int) - colour).max() <= 3


def test_ten_bits_are_rounded_and_not_cut_off(tmp_path):
    luma = np.tile(np.arange(64, 940, dtype=np.uint16), (64, 1))
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 876, 64, "yuv420p10le"
        for _ in range(2):
            frame = av.VideoFrame(876, 64, "yuv420p10le")
            for plane, level in zip(frame.planes, (64, 512, 512), strict=True):
                samples = np.full((plane.height, plane.line_size // 2), level, np.uint16)
                samples[:, :876] = luma if level == 64 else level
                plane.update(samples.tobytes())
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    frame = next(read_frames(path))[32].astype(float)
    errors = frame - (luma[32, :, None] - 64) / 876 * 255
    assert np.abs(errors).max() < 0.6 and abs(errors.mean()) < 0.05


def test_an_image_is_turned_as_a_viewer_turns_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 5
    Image.fromarray(PHOTO).save(tmp_path / "a.avif", exif=exif, quality=90)
    from studykit.media.video import read_image

    read = read_image(tmp_path / "a.avif").astype(int)
    assert np.abs(read - PHOTO.transpose(1, 0, 2)).mean() < 5

"""The skin's texture: colour, gloss and fine relief, laid over the head's grid."""

from dataclasses import replace

import numpy as np

from studykit.stimuli.geometry import bump, linear, smoothstep
from studykit.stimuli.hair import beard_cover, hairline
from studykit.stimuli.head import Head, Measures, brow_curve, lid_line, lip_heights, mouth_line
from studykit.stimuli.identity import Identity

DETAIL = 3  # texels between two vertices of the grid
# Make-up: the colour of lips, in linear light, and what lids are multiplied with.
_LIPSTICKS = (0.42, 0.03, 0.045), (0.35, 0.06, 0.07), (0.5, 0.12, 0.13), (0.3, 0.02, 0.05)
_EYE_SHADOWS = (0.55, 0.42, 0.40), (0.45, 0.40, 0.50), (0.62, 0.48, 0.36)


def skin_texture(head: Head, m: Measures, identity: Identity) -> np.ndarray:
    """Paint the skin.

    Returns
    -------
    (h, w, 7) float32
        Linear RGB, relief in mm, gloss (1 is bare skin), and the relief that raised brows and a
        smile add.
    """
    from scipy.ndimage import gaussian_filter, zoom

    i = identity
    drawn = i.look == "drawn"
    rng = np.random.default_rng([i.seed, 31])
    grid = head.flat[: head.rows * head.columns].reshape(head.rows, head.columns, 3)
    shape = ((head.rows - 1) * DETAIL + 1, (head.columns - 1) * DETAIL + 1)
    p = np.stack([zoom(grid[..., k], np.array(shape) / grid.shape[:2], order=1) for k in range(3)])
    p = p.astype(np.float32)
    x, y, z = p
    ax = np.abs(x)
    front = smoothstep(-70, -35, z)
    tone = linear(i.skin_colour)
    luminance = float(tone.mean())

    def noise(sigma):
        v = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap")
        return v / (v.std() + 1e-9)

    out = np.zeros((*shape, 7), np.float32)
    colour = np.broadcast_to(tone.astype(np.float32), (*shape, 3)).copy()

    def tint(mask, multiply):
        nonlocal colour
        colour *= 1 + mask[..., None] * (np.asarray(multiply, np.float32) - 1)

    def blend(mask, rgb):
        nonlocal colour
        mask = np.clip(mask, 0, 1)[..., None].astype(np.float32)
        colour = colour * (1 - mask) + np.asarray(rgb, np.float32) * mask

    def spot(x0, width, y0, height, strength=1.0):
        return strength * bump(ax, x0, width) * bump(y, y0, height) * front

    def streaks():
        return gaussian_filter(rng.standard_normal(shape), (5, 0.9))

    s = y - mouth_line(m, x)
    up, down = lip_heights(m, x)
    inside = np.clip(1 - (ax / (m.mouth_half * 1.05)) ** 8, 0, 1) * (z > -45)
    lips = smoothstep(0.8, -0.7, np.where(s <= 0, -s - up, s - down)) * inside
    lips = lips * smoothstep(1.05, 1.0, ax / m.mouth_half)
    from_lid = y - lid_line(m, x)
    on_eye = (np.abs(ax - m.eye[0]) < m.eye_half * 1.02) & (z > -45)
    cover = hairline(i, m, p.reshape(3, -1).T).reshape(shape)

    if not drawn:
        mottle = 0.55 * noise(14) + 0.35 * noise(5) + 0.25 * noise(2)
        tint(np.clip(0.5 + 0.25 * mottle, 0, 1) * 0.11, (0.75, 0.62, 0.60))
        rosy = spot(40, 18, -2, 17, 0.9)
        rosy += spot(0, 13, m.nose_y - 9, 9, 0.8)
        rosy += spot(0, 16, 66, 11, 0.45)
        rosy += 0.35 * bump(y, -85, 20) * front * 0.5
        rosy *= 1 + 0.35 * noise(6)
        light = np.clip(luminance * 2.2, 0.12, 1)
        tint(np.clip(rosy, 0, 1.4) * (0.20 + 0.12 * light), (1.04, 0.66, 0.66))
        # the thin skin round the eyes and beside the mouth is darker and cooler
        socket = spot(m.eye[0] - 1, 17, m.eye[1] + 0.5, 11)
        tint(socket * (0.22 + 0.20 * i.age), (0.80, 0.68, 0.72))
        bag = spot(m.eye[0] - 6, 10, m.eye[1] + 11, 4.5)
        tint(bag * (0.16 + 0.25 * i.age), (0.78, 0.68, 0.74))
        tint(spot(14, 5, m.nose_y - 2, 6) * 0.35, (0.92, 0.66, 0.62))
        tint(smoothstep(78, 105, y) * 0.25, (0.9, 0.84, 0.82))
    nostril = bump(ax, 6.2 * (1 + 0.18 * i.nose_width), 3.0) * bump(y, m.nose_y + 0.6, 2.4)
    nostril *= z > -20
    blend(np.clip(nostril * (1.1 if not drawn else 0.5), 0, 0.93), tone * (0.10, 0.05, 0.05))
    # lips
    lipstick = smoothstep(0.25, 0.9, np.float32(i.makeup)) * 0.8
    wine = rng.choice(_LIPSTICKS)
    if drawn:
        lip = tone * np.array([0.80, 0.46, 0.46])
        lip = lip * (1 - 0.7 * i.makeup) + np.array([0.55, 0.06, 0.10]) * 0.7 * i.makeup
        blend(lips * 0.85, lip)
    else:
        warm = np.array([1.0, 0.50, 0.50]) * (0.55 + 0.25 * luminance) + 0.01
        lip = tone * warm * np.array([1.0, 0.94, 1.06]) + np.array([0.03, 0.0, 0.008])
        lip = lip * (1 - lipstick) + wine * (0.35 + 0.9 * luminance**0.5) * lipstick
        streak = 1 + 0.10 * streaks() * 3
        edge = np.where(s <= 0, -s / np.maximum(up, 1), s / np.maximum(down, 1))
        depth = (0.78 + 0.30 * np.clip(edge, 0, 1)) * streak
        mask = lips[..., None] * 0.9
        base = np.broadcast_to(tone.astype(np.float32), colour.shape)
        colour = np.where(mask > 0, base * (1 - mask) + mask * (lip * depth[..., None]), colour)
    seam = bump(s, 0, 0.9) * smoothstep(1.06, 0.98, ax / m.mouth_half) * (z > -45)
    blend(seam * (0.72 if not drawn else 0.9), tone * np.array([0.16, 0.05, 0.05]))

    if not drawn:
        # freckles, moles, spots of age
        if i.freckles:
            spots = _dots(shape, p, rng, int(700 * i.freckles), 1.5, 0.55)
            tint(np.clip(spots, 0, 1) * 0.9, (0.62, 0.46, 0.36))
        moles = _dots(shape, p, rng, int(rng.integers(0, 7)), 1.9, 1.0, wide=True)
        tint(np.clip(moles, 0, 1) * 0.8, (0.35, 0.26, 0.24))
        if i.age > 0.5:
            old = _dots(shape, p, rng, int(40 * (i.age - 0.4)), 5.0, 0.35, wide=True)
            tint(np.clip(old, 0, 1), (0.72, 0.60, 0.50))
    # make-up on the lids, and lash lines
    near = np.clip(1 - ((ax - m.eye[0]) / (m.eye_half * 1.25)) ** 2, 0, 1) * (z > -45)
    if i.makeup > 0.35:
        tint(near * bump(from_lid, -6, 6.0) * 0.7 * i.makeup, rng.choice(_EYE_SHADOWS))
    line = bump(from_lid, 0, 0.75 + 0.5 * max(i.makeup - 0.2, 0) + 0.9 * drawn) * on_eye
    blend(line * (0.80 if not drawn else 1.0), tone * 0.10 + 0.004)
    crease = near * bump(from_lid, -1.08 * m.lid_up * (1.05 - 0.25 * i.lid_fold), 0.9)
    tint(crease * (0.8 if not drawn else 0.9), (0.40, 0.28, 0.27))
    # brows' and beard's shade on the skin, scalp under hair
    hair = linear(i.hair_colour)
    t = np.clip((ax - 11) / 49, 0, 1)
    thick = 2.4 * (1 + 0.4 * i.brow_thickness + 0.15 * i.masculinity)
    from_brow = np.abs(y - brow_curve(m, ax)) / (thick * np.clip(1.25 - 0.85 * t, 0.25, 1))
    brow = smoothstep(1.25, 0.5, from_brow) * smoothstep(10, 15, ax) * smoothstep(60, 54, ax)
    dark = np.minimum(hair * 0.5, 0.16) if i.hair_style != "bald" else hair * 0.3
    blend(brow * (z > -60) * (0.45 if not drawn else 1.0), dark + 0.003)
    stubble = beard_cover(i, m, p.reshape(3, -1).T).reshape(shape)
    amount = {"none": 0.0, "stubble": 0.52, "short": 0.8, "full": 0.85}.get(i.beard, 0.75)
    if amount and not drawn:
        grain = np.clip(0.75 + 0.35 * noise(0.8), 0, 1.3)
        blend(stubble * amount * grain, hair * 0.55 + tone * 0.10)
    elif amount:
        # flat fills end at the jaw
        stubble *= smoothstep(90, 84, y + 0.4 * np.maximum(-30 - z, 0))
        blend(smoothstep(0.35, 0.6, stubble) * (0.3 if i.beard == "stubble" else 1.0), hair * 0.9)
    if i.masculinity > 0.2 and not drawn and i.beard == "none" and luminance > 0.2:
        shaved = beard_cover(replace(i, beard="stubble"), m, p.reshape(3, -1).T).reshape(shape)
        tint(shaved * 0.22, (0.72, 0.76, 0.82))
    scalp = hair * (0.55 if not drawn else 0.95)
    strength = {"buzz": 0.86, "receding": 0.9}.get(i.hair_style, 0.97)
    blend(cover * strength, scalp)
    out[..., :3] = np.clip(colour, 0.002, 1)

    # relief
    relief = np.zeros(shape, np.float32)
    if not drawn:
        old = i.age
        pores = (0.016 * noise(1.2) + 0.035 * noise(2.6)) * front
        relief += pores * smoothstep(80, 60, y) * smoothstep(-112, -95, y)
        relief -= 0.10 * lips * np.clip(streaks() * 6, -1, 1)
        relief -= crease * (1.6 + 0.5 * i.lid_fold)
        relief += 0.5 * near * bump(from_lid, -1.75 * m.lid_up, 2.5)
        fold_x = 14.5 * (1 + 0.15 * i.nose_width) + 0.50 * (y - m.nose_y + 6)
        fold = bump(ax - fold_x, 2.0, 3.2) * smoothstep(m.nose_y - 12, m.nose_y + 2, y)
        fold *= smoothstep(m.mouth_y + 8, m.mouth_y - 10, y) * front
        relief -= fold * (0.35 + 1.7 * old**1.2)
        wave = 2 * np.pi * (y + 100) / (9.5 + 2 * np.sin(x / 23.0)) + 0.8 * np.sin(x / 19.0)
        lines = np.clip(np.cos(wave), 0, 1) ** 3
        forehead = smoothstep(m.brow_y - 10, m.brow_y - 18, y) * smoothstep(-106, -96, y)
        forehead = forehead * smoothstep(58, 30, ax)
        relief -= 0.75 * max(old - 0.35, 0) * lines * forehead
        out[..., 5] = -0.65 * lines * forehead
        crow = spot(m.eye[0] + m.eye_half + 8, 7, m.eye[1] + 2, 10)
        rays = np.arctan2(y - m.eye[1] - 1, ax - m.eye[0] - m.eye_half + 6)
        crows = crow * np.clip(np.cos(rays * 13), 0, 1) ** 2
        relief -= 0.7 * max(old - 0.3, 0) * crows
        bagline = near * bump(from_lid, m.lid_down + 8 + 2.0 * np.abs(ax - m.eye[0]) / 20, 1.8)
        relief -= bagline * (0.15 + 0.8 * max(old - 0.2, 0))
        relief -= 0.9 * max(old - 0.4, 0) * spot(5.0, 1.6, m.brow_y + 2, 9)
        out[..., 6] = -0.9 * fold - 0.35 * crows
        neck = np.clip(np.cos(2 * np.pi * y / 21 + 0.5 * np.sin(x / 15)), 0, 1) ** 8
        relief -= 0.35 * (0.3 + old) * (neck * smoothstep(85, 100, y))
        relief += 0.10 * stubble * (i.beard == "stubble") * noise(0.8)
        relief += 0.25 * cover * (i.hair_style == "buzz") * noise(0.9)
    out[..., 3] = relief
    gloss = 0.72 + 0.25 * bump(ax, 0, 24) * front + 0.25 * lips * (1 + lipstick) - 0.25 * stubble
    gloss += 0.2 * (1 - min(luminance * 2, 1))
    out[..., 4] = gloss * (1 - 0.8 * cover)
    return out


def _dots(shape, p, rng, count, size, strength, wide=False):
    """Scatter round spots over the cheeks and nose (or, ``wide``, over the whole face)."""
    out = np.zeros(shape, np.float32)
    x, y, z = p
    for _ in range(count):
        cx = rng.normal(0, 34 if not wide else 45)
        cy = rng.normal(-8, 14) if not wide else rng.uniform(-90, 75)
        k = np.argmin((x[::4, ::4] - cx) ** 2 + (y[::4, ::4] - cy) ** 2 + 1e4 * (z[::4, ::4] < -55))
        r, c = (4 * v for v in np.unravel_index(k, x[::4, ::4].shape))
        r, c = r + int(rng.integers(-2, 3)), c + int(rng.integers(-2, 3))
        half = int(size * 2) + 1
        rows = slice(max(r - half, 0), r + half + 1)
        columns = slice(max(c - half, 0), c + half + 1)
        yy, xx = np.mgrid[rows, columns]
        radius = size * rng.uniform(0.5, 1.1)
        fading = np.exp(-((yy - r) ** 2 + (xx - c) ** 2) / radius**2)
        patch = strength * rng.uniform(0.5, 1) * fading
        view = out[rows, columns]
        view += patch[: view.shape[0], : view.shape[1]]
    return out

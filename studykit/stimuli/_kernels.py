"""The inner loops: ray tracing of the sculpted head, rasterising, shading and inking.

The only module here that imports numba at its top, so it is imported where it is first used.
"""

import math

import numba
import numpy as np

njit = numba.njit(cache=True, error_model="numpy", fastmath=True)

SKIN, HAIR, EYE, TEETH, MOUTH, CLOTH, FRAME, LASH = range(8)


@njit
def _distance(x, y, z, prims):
    """Signed distance to smoothly joined (and carved) ellipsoids; x mirrors to the right half."""
    x = abs(x)
    d = 1e9
    for i in range(prims.shape[0]):
        p = prims[i]
        ux, uy, uz = x - p[1], y - p[2], z - p[3]
        far = math.sqrt(ux * ux + uy * uy + uz * uz) - p[17]
        sign, k = p[0], p[16]  # what is carved is joined to the outside
        if far > k + sign * d:
            continue
        lx = (p[7] * ux + p[8] * uy + p[9] * uz) / p[4]
        ly = (p[10] * ux + p[11] * uy + p[12] * uz) / p[5]
        lz = (p[13] * ux + p[14] * uy + p[15] * uz) / p[6]
        k0 = math.sqrt(lx * lx + ly * ly + lz * lz)
        gx, gy, gz = lx / p[4], ly / p[5], lz / p[6]
        e = k0 * (k0 - 1.0) / max(math.sqrt(gx * gx + gy * gy + gz * gz), 1e-9)
        h = max(k - abs(sign * d - e), 0.0) / k
        d = sign * (min(sign * d, e) - h * h * k * 0.25)
    return d


@njit
def trace(origins, directions, start, prims):
    """March rays from outside inwards: the distance from each origin to the surface it meets."""
    n = origins.shape[0]
    out = np.empty(n)
    for i in range(n):
        r, o, way = start[i], origins[i], directions[i]
        for _ in range(90):
            d = _distance(o[0] + r * way[0], o[1] + r * way[1], o[2] + r * way[2], prims)
            r -= d * 0.8
            if abs(d) < 0.01:
                break
        out[i] = r
    return out


@njit
def _dot(u, v):
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@njit
def _cross(u, v):
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


@njit
def _turned(rotation, v):
    return _dot(rotation[0], v), _dot(rotation[1], v), _dot(rotation[2], v)


@njit
def _rotated(x, y, angle):
    c, s = math.cos(angle), math.sin(angle)
    return x * c - y * s, x * s + y * c


@njit
def _between(values, a, b):
    """From one vertex's value to another's."""
    return values[b, 0] - values[a, 0], values[b, 1] - values[a, 1], values[b, 2] - values[a, 2]


@njit
def _vector(values, corners, weights):
    """Interpolate the vectors at a triangle's corners."""
    a, b, c = corners
    u, v, w = weights
    return (
        u * values[a, 0] + v * values[b, 0] + w * values[c, 0],
        u * values[a, 1] + v * values[b, 1] + w * values[c, 1],
        u * values[a, 2] + v * values[b, 2] + w * values[c, 2],
    )


@njit
def _unit(v, least):
    q = 1.0 / (math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) + least)
    return v[0] * q, v[1] * q, v[2] * q


@njit
def _halfway(u, v):
    return _unit((u[0] + v[0], u[1] + v[1], u[2] + v[2]), 0.0)


@njit
def normals(vertices, triangles, out):
    """Area-weighted vertex normals, written into ``out``."""
    for i in range(out.shape[0]):
        for axis in range(3):
            out[i, axis] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        normal = _cross(_between(vertices, a, b), _between(vertices, a, c))
        for v in (a, b, c):
            for axis in range(3):
                out[v, axis] += normal[axis]
    for i in range(out.shape[0]):
        length = math.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        for axis in range(3):
            out[i, axis] /= length


@njit
def rasterise(points, triangles, culled, height, width):
    """Draw triangles into a z-buffer.

    ``points`` are (n, 3): x, y in pixels and a depth that is larger for nearer points and linear
    on the screen. Triangles are culled when they face away and their ``culled`` flag is set.
    Returns the depth and the index of the triangle seen (-1 where none is) at every pixel.
    """
    depth = np.zeros((height, width), np.float32)
    index = np.full((height, width), -1, np.int32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (culled[t] and area < 0.0):
            continue
        x0 = max(math.ceil(min(ax, bx, cx)), 0)
        x1 = min(math.floor(max(ax, bx, cx)), width - 1)
        y0 = max(math.ceil(min(ay, by, cy)), 0)
        y1 = min(math.floor(max(ay, by, cy)), height - 1)
        if x0 > x1 or y0 > y1:
            continue
        inv = 1.0 / area
        ub, vb = (cy - ay) * inv, -(cx - ax) * inv
        uc, vc = -(by - ay) * inv, (bx - ax) * inv
        za, zb, zc = points[a, 2], points[b, 2] - points[a, 2], points[c, 2] - points[a, 2]
        ua, slope = -(ub + uc), ub * zb + uc * zc
        ra, rb, rc = 1.0 / ua, 1.0 / ub, 1.0 / uc  # unused where it is infinite
        for y in range(y0, y1 + 1):
            # where on this row all three weights are positive: long thin ribbons stay cheap
            wb = -ax * ub + (y - ay) * vb
            wc = -ax * uc + (y - ay) * vc
            wa = 1.0 - wb - wc
            low, high = float(x0), float(x1)
            for u, w, r in ((ub, wb, rb), (uc, wc, rc), (ua, wa, ra)):
                if u > 0.0:
                    low = max(low, -w * r)
                elif u < 0.0:
                    high = min(high, -w * r)
                elif w < 0.0:
                    high = low - 1.0
            z0 = za + wb * zb + wc * zc
            for x in range(math.ceil(low - 1e-4), math.floor(high + 1e-4) + 1):
                z = z0 + slope * x
                if z > depth[y, x]:
                    depth[y, x] = z
                    index[y, x] = t
    return depth, index


@njit
def transform(
    points, tangents, outward, side, body, pose, turn, stand, neck, shift, eye_z, zoom, centre,
    view, tangent, normal, screen,
):  # fmt: skip
    """Pose every vertex, give ribbons their width and project.

    ``pose`` is yaw, pitch and roll in radians; ``turn`` and ``stand`` are the rotations of head
    and shoulders, between which the neck twists by its ``body`` weight. ``side`` is a ribbon's
    signed half width in mm, laid out to face the camera. Fills ``view`` (mm), ``tangent`` and, for
    ribbons, ``normal``, and ``screen`` (pixels, and 1 / distance).
    """
    for i in range(points.shape[0]):
        x, y, z = points[i, 0] - neck[0], points[i, 1] - neck[1], points[i, 2] - neck[2]
        w = body[i]
        if w <= 0.0 or w >= 1.0:
            px, py, pz = _turned(turn if w <= 0.0 else stand, (x, y, z))
        else:
            y, z = _rotated(y, z, pose[1] * (1 - w))
            z, x = _rotated(z, x, pose[0] * (1 - 0.65 * w))
            px, py = _rotated(x, y, pose[2] * (1 - 0.88 * w))
            pz = z
        px, py, pz = px + shift[0], py + shift[1], pz + shift[2]
        if side[i] != 0.0:
            t = tangent[i, 0], tangent[i, 1], tangent[i, 2] = _turned(turn, tangents[i])
            normal[i, 0], normal[i, 1], normal[i, 2] = _turned(turn, outward[i])
            wx, wy, wz = _cross(t, (-px, -py, eye_z - pz))
            s = side[i] / (math.sqrt(wx * wx + wy * wy + wz * wz) + 1e-9)
            px, py, pz = px + wx * s, py + wy * s, pz + wz * s
        view[i, 0], view[i, 1], view[i, 2] = px, py, pz
        near = 1.0 / (eye_z - pz)
        screen[i, 0] = centre[0] + px * zoom * near
        screen[i, 1] = centre[1] + py * zoom * near
        screen[i, 2] = near


@njit
def occlusion(points, depth, bias, total):
    """Add one to ``total`` for every vertex that a depth map's light reaches (2x2 soft)."""
    h, w = depth.shape
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2] + bias
        ix, iy = int(x), int(y)
        if 0 <= ix < w - 1 and 0 <= iy < h - 1:
            fx, fy = x - ix, y - iy
            s = 0.0
            for j, row_share in enumerate((1 - fy, fy)):
                for k, share in enumerate((1 - fx, fx)):
                    if z >= depth[iy + j, ix + k]:
                        s += share * row_share
            total[i] += s
        else:
            total[i] += 1.0


@njit
def _hash(x, y):
    h = (x * 374761393 + y * 668265263) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return (h & 0xFFFF) / 65535.0


@njit
def _noise(x, y):
    ix, iy = math.floor(x), math.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    a = _hash(ix, iy) * (1 - fx) + _hash(ix + 1, iy) * fx
    b = _hash(ix, iy + 1) * (1 - fx) + _hash(ix + 1, iy + 1) * fx
    return a * (1 - fy) + b * fy


@njit
def _smooth(a, b, x):
    t = min(max((x - a) / (b - a), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit
def _height(texel, wrinkles):
    """Relief of the skin, with what raised brows and a smile add."""
    return texel[3] + wrinkles[0] * texel[5] + wrinkles[1] * texel[6]


@njit
def _texel(texels, shares):
    """Mix the colour and the gloss of four neighbouring texels."""
    a, b, c, d = texels
    p, q, r, s = shares
    red, green, blue = (
        p * a[0] + q * b[0] + r * c[0] + s * d[0],
        p * a[1] + q * b[1] + r * c[1] + s * d[1],
        p * a[2] + q * b[2] + r * c[2] + s * d[2],
    )
    return (red, green, blue), p * a[4] + q * b[4] + r * c[4] + s * d[4]


@njit
def _eye(direction, iris, drawn, pupil):
    """Colour of the eyeball at a unit direction (u, v, w) of its own frame, w along the gaze."""
    u, v, w = direction
    r = math.sqrt(u * u + v * v)
    phi = math.atan2(v, u)
    edge = 0.475 if not drawn else 0.52
    white = 1.0 - 0.10 * _smooth(0.55, 1.0, r)
    cr, cg, cb = 0.70 * white, 0.64 * white, 0.61 * white
    if not drawn:
        vein = _noise(phi * 7.0 + 40, r * 9.0) * _smooth(0.55, 0.95, r)
        cg -= 0.10 * vein + 0.05 * _smooth(0.6, 1.0, r)
        cb -= 0.11 * vein + 0.06 * _smooth(0.6, 1.0, r)
    else:
        cr, cg, cb = 0.92, 0.92, 0.92
    if w > 0 and r < edge + 0.05:
        t = r / edge
        if drawn:
            f = 0.55 + 0.75 * _smooth(-0.9, 0.9, v / edge)
            if t > 0.84:
                f *= 0.25
        else:
            f = 0.45 + 0.62 * _noise(phi * 11.0 + 100, r * 6.0) * _smooth(0.25, 0.6, t)
            f *= 1.0 + 0.35 * _smooth(-0.3, 1.0, v / edge)
            f *= 1.0 - 0.80 * _smooth(0.80, 1.0, t)
        ir, ig, ib = iris[0] * f, iris[1] * f, iris[2] * f
        if not drawn:
            warm = 0.35 * _smooth(0.62, 0.34, t)
            ir, ig, ib = ir + warm * 0.16 * f, ig + warm * 0.07 * f, ib
        hole = _smooth(pupil + 0.03, pupil - 0.03, r)
        ir, ig, ib = ir * (1 - hole) + 0.004, ig * (1 - hole) + 0.004, ib * (1 - hole) + 0.004
        if drawn:
            glint = _smooth(0.145, 0.11, math.sqrt((u + 0.17) ** 2 + (v + 0.20) ** 2))
            small = _smooth(0.075, 0.05, math.sqrt((u - 0.2) ** 2 + (v - 0.22) ** 2))
            glint = max(glint, small)
            ir, ig, ib = ir + glint * (1 - ir), ig + glint * (1 - ig), ib + glint * (1 - ib)
        m = _smooth(edge + 0.035, edge - 0.025, r)
        cr, cg, cb = cr * (1 - m) + ir * m, cg * (1 - m) + ig * m, cb * (1 - m) + ib * m
    return cr, cg, cb


@njit
def shade(
    index, points, view, normal, tangent, triangles, material, colour, uv, local, ao,
    texture, wrinkles, shadow, light, iris, pupil, drawn,
):  # fmt: skip
    """Colour every pixel that a triangle covers; linear RGB, zero elsewhere.

    ``light`` is (7, 3): key direction, key colour, fill direction, fill colour, rim colour, sky
    and ground ambient. ``shadow`` is a depth map along the key light, 2 texels a mm^-1 as laid
    out by ``render._shadow_points``.
    """
    height, width = index.shape
    out = np.zeros((height, width, 3), np.float32)
    th, tw = texture.shape[0], texture.shape[1]
    sh, sw = shadow.shape
    k = light[0]
    f = light[2]
    # the light's own axes, as in render._shadow_points
    s = math.sqrt(k[0] * k[0] + k[2] * k[2])
    rx, rz = k[2] / s, -k[0] / s
    ux, uy, uz = k[1] * rz, k[2] * rx - k[0] * rz, -k[1] * rx
    for y in range(height):
        for x in range(width):
            t = index[y, x]
            if t < 0:
                continue
            a, b, c = corners = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ax, ay = points[a, 0], points[a, 1]
            e1x, e1y = points[b, 0] - ax, points[b, 1] - ay
            e2x, e2y = points[c, 0] - ax, points[c, 1] - ay
            inv = 1.0 / (e1x * e2y - e1y * e2x)
            wb = ((x - ax) * e2y - (y - ay) * e2x) * inv
            wc = ((y - ay) * e1x - (x - ax) * e1y) * inv
            weights = wa, wb, wc = 1.0 - wb - wc, wb, wc
            m = material[t]
            p = _vector(view, corners, weights)
            open_ = wa * ao[a] + wb * ao[b] + wc * ao[c]
            rgb = _vector(colour, corners, weights)
            nx, ny, nz = _unit(_vector(normal, corners, weights), 1e-9)
            gloss = 0.25
            if m == SKIN and uv[a, 0] >= 0:
                u = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                v = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                iu, iv = min(max(int(u), 0), tw - 2), min(max(int(v), 0), th - 2)
                fu, fv = u - iu, v - iv
                above, below = texture[iv], texture[iv + 1]
                texels = above[iu], above[iu + 1], below[iu], below[iu + 1]
                shares = (1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv
                rgb, gloss = _texel(texels, shares)
                if not drawn:
                    h00, h10 = _height(texels[0], wrinkles), _height(texels[1], wrinkles)
                    h01, h11 = _height(texels[2], wrinkles), _height(texels[3], wrinkles)
                    hu = (h10 - h00) * (1 - fv) + (h11 - h01) * fv
                    hv = (h01 - h00) * (1 - fu) + (h11 - h10) * fu
                    du1, dv1 = uv[b, 0] - uv[a, 0], uv[b, 1] - uv[a, 1]
                    du2, dv2 = uv[c, 0] - uv[a, 0], uv[c, 1] - uv[a, 1]
                    if abs(du1 * dv2 - du2 * dv1) > 1e-6:
                        # dh along the two edges, lifted to a gradient on the surface
                        d1, d2 = hu * du1 + hv * dv1, hu * du2 + hv * dv2
                        p1, p2 = _between(view, a, b), _between(view, a, c)
                        g11, g12, g22 = _dot(p1, p1), _dot(p1, p2), _dot(p2, p2)
                        gd = g11 * g22 - g12 * g12
                        if gd > 1e-9:
                            k1 = (g22 * d1 - g12 * d2) / gd
                            k2 = (g11 * d2 - g12 * d1) / gd
                            nx -= k1 * p1[0] + k2 * p2[0]
                            ny -= k1 * p1[1] + k2 * p2[1]
                            nz -= k1 * p1[2] + k2 * p2[2]
                            nx, ny, nz = _unit((nx, ny, nz), 0.0)
            elif m == EYE:
                rgb = _eye(_vector(local, corners, weights), iris, drawn, pupil)
            if nz < 0 and m != SKIN and m != HAIR:
                nx, ny, nz = -nx, -ny, -nz
            n = nx, ny, nz
            nk = _dot(n, k)
            if drawn:
                lit = _smooth(-0.02, 0.05, nk * 0.9 + 0.16 + 1.1 * min(open_ - 0.62, 0.12))
                if m == EYE:
                    lit = 1.0 if local[a, 3] == 0 else 0.0
                if m in (MOUTH, TEETH):
                    lit = 0.6
                # the halo of drawn hair: a band round the head, broken where light is not
                band = 0.0
                if m == HAIR:
                    band = _smooth(-0.86, -0.82, ny) * _smooth(-0.66, -0.70, ny)
                    band *= _smooth(0.45, 0.55, nk)
                for ch in range(3):
                    # shade is a deeper, more saturated tone of the fill, never grey
                    least = 0.44 if ch == 1 else 0.50
                    out[y, x, ch] = rgb[ch] * (least + (1.0 - least) * lit)
                    if m == HAIR:
                        out[y, x, ch] += band * (0.10 + 0.6 * rgb[ch])
                continue
            # the light's shadow, softened over 3x3 samples spread by about 3 mm
            lit = 0.0
            lx = (p[0] * rx + p[2] * rz) * sw / 360.0 + sw * 0.5
            ly = (p[0] * ux + p[1] * uy + p[2] * uz) * sh / 360.0 + sh * 0.5
            lz = _dot(p, k) + 1000.0
            bias = 4.0 + 5.0 * (1.0 - max(nk, 0.0))
            turn = _hash(x, y) * 0.9
            for j in range(-1, 2):
                for i in range(-1, 2):
                    qx, qy = int(lx + i * 1.7 + turn - 0.45), int(ly + j * 1.7 - turn + 0.45)
                    if 0 <= qx < sw and 0 <= qy < sh:
                        lit += _smooth(0.0, 3.0, lz + bias - shadow[qy, qx])
                    else:
                        lit += 1.0
            lit /= 9.0
            nf = _dot(n, f)
            sky = 0.5 - 0.5 * ny
            e = _unit((-p[0], -p[1], 1100.0 - p[2]), 0.0)
            ne = max(_dot(n, e), 0.0)
            h = _halfway(k, e)
            fresnel = (1.0 - ne) ** 4
            rim = fresnel * open_ * (0.35 + 0.65 * sky)
            if m in (HAIR, LASH):
                along = _unit(_vector(tangent, corners, weights), 1e-9)
                tk = _dot(along, k)
                sin_k = math.sqrt(max(1.0 - tk * tk, 0.0))
                wrap = max((nk + 0.35) / 1.35, 0.0)
                body = open_ * open_
                key = lit * wrap * (0.35 + 0.65 * sin_k)
                fill = max((nf + 0.4) / 1.4, 0.0) * open_
                jit = local[a, 0]
                th_ = _dot(along, h) + 0.06 + 0.10 * (jit - 0.5)
                p1 = max(1.0 - th_ * th_, 0.0) ** 45 * lit * wrap
                th2 = th_ - 0.22
                p2 = max(1.0 - th2 * th2, 0.0) ** 12 * lit * wrap
                shine = 1.0 if m == HAIR else 0.2
                for ch in range(3):
                    amb = body * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    v = rgb[ch] * (key * light[1, ch] + fill * light[3, ch] + amb)
                    v += shine * light[1, ch] * body * (0.055 * p1 + 0.55 * rgb[ch] * p2)
                    v += shine * rim * light[4, ch] * (0.05 + rgb[ch])
                    out[y, x, ch] = v
                continue
            nh = max(_dot(n, h), 0.0)
            if m == SKIN:
                spec = gloss * (0.11 * nh**14 + 0.16 * nh**48) * (0.55 + 2.0 * fresnel)
                nhf = max(_dot(n, _halfway(f, e)), 0.0)
                spec_f = gloss * 0.12 * nhf**16 * open_
                for ch in range(3):
                    # light scattered under the skin reddens and softens the terminator
                    w = (0.36, 0.16, 0.10)[ch]
                    kd = max((nk + w) / (1 + w), 0.0)
                    kd = kd * kd * 0.35 + kd * 0.65
                    soft = lit + (1 - lit) * (0.16, 0.05, 0.03)[ch]
                    # occlusion bleeds the skin's own colour instead of going grey
                    occ = open_ ** (1.35 - (0.75 if ch == 0 else 0.55) * rgb[ch])
                    fd = max((nf + w + 0.2) / (1.2 + w), 0.0) * occ
                    amb = occ * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    v = rgb[ch] * (kd * soft * light[1, ch] + fd * light[3, ch] + amb)
                    v += spec * lit * max(nk, 0.0) * light[1, ch] + spec_f * light[3, ch]
                    out[y, x, ch] = v + 0.22 * rim * light[4, ch]
            elif m == EYE:
                lid = wa * local[a, 3] + wb * local[b, 3] + wc * local[c, 3]
                kd = max((nk + 0.5) / 1.5, 0.0) * (0.35 + 0.65 * lit)
                nr = 2.0 * _dot(n, e)
                mirrored = nr * nx - e[0], nr * ny - e[1], nr * nz - e[2]
                glint = _smooth(0.945, 0.965, _dot(mirrored, k))
                glint2 = 0.25 * _smooth(0.93, 0.99, _dot(mirrored, f))
                for ch in range(3):
                    amb = 0.9 * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    v = rgb[ch] * lid * (0.9 * kd * light[1, ch] + 0.6 * light[3, ch] + amb)
                    v += (glint * (0.35 + 0.65 * lit) * 0.75 + glint2) * light[1, ch] * lid
                    out[y, x, ch] = v
            else:
                kd = max((nk + 0.15) / 1.15, 0.0) * lit
                fd = max((nf + 0.3) / 1.3, 0.0) * open_
                spec = 0.0
                if m == FRAME:
                    spec = 0.5 * nh**60 * lit + 0.25 * rim
                elif m in (TEETH, MOUTH):
                    spec = 0.22 * nh**40 * open_
                    kd *= open_
                elif m == CLOTH:
                    spec = 0.10 * rim
                for ch in range(3):
                    amb = open_ * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    v = rgb[ch] * (kd * light[1, ch] + fd * light[3, ch] + amb)
                    out[y, x, ch] = v + spec * light[1, ch]
    return out


@njit
def ink(index, depth_mm, triangles_group, reach, jump, soft, brow, locks):
    """Coverage (0..1) of outlines: where groups meet or the depth jumps, ``reach`` pixels wide.

    A pixel is inked when the surface under it ends within ``reach``; the nearer side carries
    the line, so that lines keep an even width. Groups from ``locks`` up are locks of hair, parted
    by lines wherever one lies over another; ``soft`` (the neck) is parted from the face by depth
    alone, and ``brow`` carries no line.
    """
    height, width = index.shape
    out = np.zeros((height, width), np.float32)
    n = math.ceil(reach)
    for y in range(n, height - n):
        for x in range(n, width - n):
            t = index[y, x]
            g = triangles_group[t] if t >= 0 else -1
            z = depth_mm[y, x]
            best = 1e9
            for j in range(-n, n + 1):
                for i in range(-n, n + 1):
                    r = math.sqrt(i * i + j * j)
                    if r >= best or r > reach:
                        continue
                    t2 = index[y + j, x + i]
                    g2 = triangles_group[t2] if t2 >= 0 else -1
                    dz = z - depth_mm[y + j, x + i]
                    step = jump * r + 4.0
                    if g != g2 and dz >= 0:
                        if g >= locks and g2 >= locks:
                            step = 0.6
                        elif g >= locks - 1 and g2 >= locks - 1:
                            step = 14.0
                        elif (g == soft and g2 == 0) or (g == 0 and g2 == soft):
                            step = 4.0
                        elif g == brow or g2 == brow:
                            step = 1e9
                        else:
                            step = -1.0
                    elif g >= locks - 1:
                        step = 16.0 + jump * r
                    if dz > step:
                        best = r
            if best < reach:
                out[y, x] = min(reach - best + 0.35, 1.0)
    return out


@njit
def resolve(linear, covered, ink_cover, ink_colour, background, curve, size, drawn):
    """Average 2x2 samples over the background; ``curve`` encodes linear 0..2 in 4096 steps."""
    out = np.empty((size, size, 3), np.uint8)
    mask = np.zeros((size, size), np.float32)
    total = np.zeros(3)
    for y in range(size):
        for x in range(size):
            alpha = 0.0
            total[0] = total[1] = total[2] = 0.0
            for j in range(2):
                for i in range(2):
                    yy, xx = 2 * y + j, 2 * x + i
                    line = ink_cover[yy, xx] if drawn else 0.0
                    if covered[yy, xx] >= 0 or line > 0:
                        for ch in range(3):
                            v = linear[yy, xx, ch] if covered[yy, xx] >= 0 else background[y, x, ch]
                            v = v * (1 - line) + ink_colour[ch] * line
                            total[ch] += curve[int(min(max(v, 0.0), 2.0) * 2047.5)]
                        alpha += 1.0
                    if covered[yy, xx] >= 0:
                        mask[y, x] += 0.25
            rest = 4.0 - alpha
            for ch in range(3):
                v = curve[int(min(max(background[y, x, ch], 0.0), 2.0) * 2047.5)]
                out[y, x, ch] = int(255.0 * (total[ch] + rest * v) / 4.0 + 0.5)
    return out, mask

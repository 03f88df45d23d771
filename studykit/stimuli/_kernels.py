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
        k = p[16]
        if (p[0] > 0 and far > d + k) or (p[0] < 0 and far > k - d):
            continue
        lx = (p[7] * ux + p[8] * uy + p[9] * uz) / p[4]
        ly = (p[10] * ux + p[11] * uy + p[12] * uz) / p[5]
        lz = (p[13] * ux + p[14] * uy + p[15] * uz) / p[6]
        k0 = math.sqrt(lx * lx + ly * ly + lz * lz)
        gx, gy, gz = lx / p[4], ly / p[5], lz / p[6]
        e = k0 * (k0 - 1.0) / max(math.sqrt(gx * gx + gy * gy + gz * gz), 1e-9)
        if p[0] > 0:
            h = max(k - abs(d - e), 0.0) / k
            d = min(d, e) - h * h * k * 0.25
        else:
            h = max(k - abs(d + e), 0.0) / k
            d = max(d, -e) + h * h * k * 0.25
    return d


@njit
def trace(origins, directions, start, prims):
    """March rays from outside inwards: the distance from each origin to the surface it meets."""
    n = origins.shape[0]
    out = np.empty(n)
    for i in range(n):
        r = start[i]
        for _ in range(90):
            d = _distance(
                origins[i, 0] + r * directions[i, 0],
                origins[i, 1] + r * directions[i, 1],
                origins[i, 2] + r * directions[i, 2],
                prims,
            )
            r -= d * 0.8
            if abs(d) < 0.01:
                break
        out[i] = r
    return out


@njit
def normals(vertices, triangles, out):
    """Area-weighted vertex normals, written into ``out``."""
    out[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux = vertices[b, 0] - vertices[a, 0]
        uy = vertices[b, 1] - vertices[a, 1]
        uz = vertices[b, 2] - vertices[a, 2]
        wx = vertices[c, 0] - vertices[a, 0]
        wy = vertices[c, 1] - vertices[a, 1]
        wz = vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for v in (a, b, c):
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for i in range(out.shape[0]):
        s = math.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        out[i, 0] /= s
        out[i, 1] /= s
        out[i, 2] /= s


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
        rb = 1.0 / ub if ub != 0.0 else 0.0
        rc = 1.0 / uc if uc != 0.0 else 0.0
        ra = 1.0 / ua if ua != 0.0 else 0.0
        for y in range(y0, y1 + 1):
            # where on this row all three weights are positive: long thin ribbons stay cheap
            wb = -ax * ub + (y - ay) * vb
            wc = -ax * uc + (y - ay) * vc
            wa = 1.0 - wb - wc
            low, high = float(x0), float(x1)
            if ub > 0.0:
                low = max(low, -wb * rb)
            elif ub < 0.0:
                high = min(high, -wb * rb)
            elif wb < 0.0:
                continue
            if uc > 0.0:
                low = max(low, -wc * rc)
            elif uc < 0.0:
                high = min(high, -wc * rc)
            elif wc < 0.0:
                continue
            if ua > 0.0:
                low = max(low, -wa * ra)
            elif ua < 0.0:
                high = min(high, -wa * ra)
            elif wa < 0.0:
                continue
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
            m = turn if w <= 0.0 else stand
            px = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z
            py = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z
            pz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z
        else:
            a = pose[1] * (1 - w)
            c, s = math.cos(a), math.sin(a)
            y, z = y * c - z * s, y * s + z * c
            a = pose[0] * (1 - 0.65 * w)
            c, s = math.cos(a), math.sin(a)
            x, z = x * c + z * s, z * c - x * s
            a = pose[2] * (1 - 0.88 * w)
            c, s = math.cos(a), math.sin(a)
            px, py, pz = x * c - y * s, x * s + y * c, z
        px, py, pz = px + shift[0], py + shift[1], pz + shift[2]
        if side[i] != 0.0:
            x, y, z = tangents[i, 0], tangents[i, 1], tangents[i, 2]
            tx = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
            ty = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
            tz = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
            tangent[i, 0], tangent[i, 1], tangent[i, 2] = tx, ty, tz
            x, y, z = outward[i, 0], outward[i, 1], outward[i, 2]
            normal[i, 0] = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
            normal[i, 1] = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
            normal[i, 2] = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
            vx, vy, vz = -px, -py, eye_z - pz
            wx, wy, wz = ty * vz - tz * vy, tz * vx - tx * vz, tx * vy - ty * vx
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
            if z >= depth[iy, ix]:
                s += (1 - fx) * (1 - fy)
            if z >= depth[iy, ix + 1]:
                s += fx * (1 - fy)
            if z >= depth[iy + 1, ix]:
                s += (1 - fx) * fy
            if z >= depth[iy + 1, ix + 1]:
                s += fx * fy
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
def _eye(u, v, w, iris, drawn, pupil):
    """Colour of the eyeball at a unit direction (u, v, w) of its own frame, w along the gaze."""
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
            glint = math.sqrt((u + 0.17) ** 2 + (v + 0.20) ** 2)
            glint = max(
                _smooth(0.145, 0.11, glint),
                _smooth(0.075, 0.05, math.sqrt((u - 0.2) ** 2 + (v - 0.22) ** 2)),
            )
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
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ax, ay = points[a, 0], points[a, 1]
            e1x, e1y = points[b, 0] - ax, points[b, 1] - ay
            e2x, e2y = points[c, 0] - ax, points[c, 1] - ay
            inv = 1.0 / (e1x * e2y - e1y * e2x)
            wb = ((x - ax) * e2y - (y - ay) * e2x) * inv
            wc = ((y - ay) * e1x - (x - ax) * e1y) * inv
            wa = 1.0 - wb - wc
            m = material[t]
            nx = wa * normal[a, 0] + wb * normal[b, 0] + wc * normal[c, 0]
            ny = wa * normal[a, 1] + wb * normal[b, 1] + wc * normal[c, 1]
            nz = wa * normal[a, 2] + wb * normal[b, 2] + wc * normal[c, 2]
            px = wa * view[a, 0] + wb * view[b, 0] + wc * view[c, 0]
            py = wa * view[a, 1] + wb * view[b, 1] + wc * view[c, 1]
            pz = wa * view[a, 2] + wb * view[b, 2] + wc * view[c, 2]
            open_ = wa * ao[a] + wb * ao[b] + wc * ao[c]
            cr = wa * colour[a, 0] + wb * colour[b, 0] + wc * colour[c, 0]
            cg = wa * colour[a, 1] + wb * colour[b, 1] + wc * colour[c, 1]
            cb = wa * colour[a, 2] + wb * colour[b, 2] + wc * colour[c, 2]
            q = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
            nx, ny, nz = nx * q, ny * q, nz * q
            gloss = 0.25
            if m == SKIN and uv[a, 0] >= 0:
                u = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                v = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                iu, iv = min(max(int(u), 0), tw - 2), min(max(int(v), 0), th - 2)
                fu, fv = u - iu, v - iv
                w00, w10 = (1 - fu) * (1 - fv), fu * (1 - fv)
                w01, w11 = (1 - fu) * fv, fu * fv
                t00, t10 = texture[iv, iu], texture[iv, iu + 1]
                t01, t11 = texture[iv + 1, iu], texture[iv + 1, iu + 1]
                cr = w00 * t00[0] + w10 * t10[0] + w01 * t01[0] + w11 * t11[0]
                cg = w00 * t00[1] + w10 * t10[1] + w01 * t01[1] + w11 * t11[1]
                cb = w00 * t00[2] + w10 * t10[2] + w01 * t01[2] + w11 * t11[2]
                gloss = w00 * t00[4] + w10 * t10[4] + w01 * t01[4] + w11 * t11[4]
                if not drawn:
                    h00 = t00[3] + wrinkles[0] * t00[5] + wrinkles[1] * t00[6]
                    h10 = t10[3] + wrinkles[0] * t10[5] + wrinkles[1] * t10[6]
                    h01 = t01[3] + wrinkles[0] * t01[5] + wrinkles[1] * t01[6]
                    h11 = t11[3] + wrinkles[0] * t11[5] + wrinkles[1] * t11[6]
                    hu = (h10 - h00) * (1 - fv) + (h11 - h01) * fv
                    hv = (h01 - h00) * (1 - fu) + (h11 - h10) * fu
                    du1, dv1 = uv[b, 0] - uv[a, 0], uv[b, 1] - uv[a, 1]
                    du2, dv2 = uv[c, 0] - uv[a, 0], uv[c, 1] - uv[a, 1]
                    det = du1 * dv2 - du2 * dv1
                    if abs(det) > 1e-6:
                        # dh along the two edges, lifted to a gradient on the surface
                        d1, d2 = hu * du1 + hv * dv1, hu * du2 + hv * dv2
                        p1x = view[b, 0] - view[a, 0]
                        p1y = view[b, 1] - view[a, 1]
                        p1z = view[b, 2] - view[a, 2]
                        p2x = view[c, 0] - view[a, 0]
                        p2y = view[c, 1] - view[a, 1]
                        p2z = view[c, 2] - view[a, 2]
                        g11 = p1x * p1x + p1y * p1y + p1z * p1z
                        g12 = p1x * p2x + p1y * p2y + p1z * p2z
                        g22 = p2x * p2x + p2y * p2y + p2z * p2z
                        gd = g11 * g22 - g12 * g12
                        if gd > 1e-9:
                            k1 = (g22 * d1 - g12 * d2) / gd
                            k2 = (g11 * d2 - g12 * d1) / gd
                            nx -= k1 * p1x + k2 * p2x
                            ny -= k1 * p1y + k2 * p2y
                            nz -= k1 * p1z + k2 * p2z
                            q = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
                            nx, ny, nz = nx * q, ny * q, nz * q
            elif m == EYE:
                lu = wa * local[a, 0] + wb * local[b, 0] + wc * local[c, 0]
                lv = wa * local[a, 1] + wb * local[b, 1] + wc * local[c, 1]
                lw = wa * local[a, 2] + wb * local[b, 2] + wc * local[c, 2]
                cr, cg, cb = _eye(lu, lv, lw, iris, drawn, pupil)
            if nz < 0 and m != SKIN and m != HAIR:
                nx, ny, nz = -nx, -ny, -nz
            nk = nx * k[0] + ny * k[1] + nz * k[2]
            if drawn:
                lit = _smooth(-0.02, 0.05, nk * 0.9 + 0.16 + 1.1 * min(open_ - 0.62, 0.12))
                if m == EYE:
                    lit = 1.0 if local[a, 3] == 0 else 0.0
                if m in (MOUTH, TEETH):
                    lit = 0.6
                # shade is a deeper, more saturated tone of the fill, never grey
                out[y, x, 0] = cr * (0.50 + 0.50 * lit)
                out[y, x, 1] = cg * (0.44 + 0.56 * lit)
                out[y, x, 2] = cb * (0.50 + 0.50 * lit)
                if m == HAIR:
                    # the halo of drawn hair: a band round the head, broken where light is not
                    band = _smooth(-0.86, -0.82, ny) * _smooth(-0.66, -0.70, ny)
                    band *= _smooth(0.45, 0.55, nk)
                    out[y, x, 0] += band * (0.10 + 0.6 * cr)
                    out[y, x, 1] += band * (0.10 + 0.6 * cg)
                    out[y, x, 2] += band * (0.10 + 0.6 * cb)
                continue
            # the light's shadow, softened over 3x3 samples spread by about 3 mm
            lit = 0.0
            lx = (px * rx + pz * rz) * sw / 360.0 + sw * 0.5
            ly = (px * ux + py * uy + pz * uz) * sh / 360.0 + sh * 0.5
            lz = px * k[0] + py * k[1] + pz * k[2] + 1000.0
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
            nf = nx * f[0] + ny * f[1] + nz * f[2]
            sky = 0.5 - 0.5 * ny
            ex, ey, ez = -px, -py, 1100.0 - pz
            q = 1.0 / math.sqrt(ex * ex + ey * ey + ez * ez)
            ex, ey, ez = ex * q, ey * q, ez * q
            ne = max(nx * ex + ny * ey + nz * ez, 0.0)
            hx, hy, hz = k[0] + ex, k[1] + ey, k[2] + ez
            q = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
            hx, hy, hz = hx * q, hy * q, hz * q
            fresnel = (1.0 - ne) ** 4
            rim = fresnel * open_ * (0.35 + 0.65 * sky)
            if m in (HAIR, LASH):
                tx = wa * tangent[a, 0] + wb * tangent[b, 0] + wc * tangent[c, 0]
                ty = wa * tangent[a, 1] + wb * tangent[b, 1] + wc * tangent[c, 1]
                tz = wa * tangent[a, 2] + wb * tangent[b, 2] + wc * tangent[c, 2]
                q = 1.0 / (math.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9)
                tx, ty, tz = tx * q, ty * q, tz * q
                tk = tx * k[0] + ty * k[1] + tz * k[2]
                sin_k = math.sqrt(max(1.0 - tk * tk, 0.0))
                wrap = max((nk + 0.35) / 1.35, 0.0)
                body = open_ * open_
                key = lit * wrap * (0.35 + 0.65 * sin_k)
                fill = max((nf + 0.4) / 1.4, 0.0) * open_
                jit = local[a, 0]
                th_ = tx * hx + ty * hy + tz * hz + 0.06 + 0.10 * (jit - 0.5)
                p1 = max(1.0 - th_ * th_, 0.0) ** 45 * lit * wrap
                th2 = th_ - 0.22
                p2 = max(1.0 - th2 * th2, 0.0) ** 12 * lit * wrap
                shine = 1.0 if m == HAIR else 0.2
                for ch in range(3):
                    base = cr if ch == 0 else (cg if ch == 1 else cb)
                    amb = body * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    e = base * (key * light[1, ch] + fill * light[3, ch] + amb)
                    e += shine * light[1, ch] * body * (0.055 * p1 + 0.55 * base * p2)
                    e += shine * rim * light[4, ch] * (0.05 + base)
                    out[y, x, ch] = e
                continue
            nh = max(nx * hx + ny * hy + nz * hz, 0.0)
            if m == SKIN:
                spec = gloss * (0.11 * nh**14 + 0.16 * nh**48) * (0.55 + 2.0 * fresnel)
                hfx, hfy, hfz = f[0] + ex, f[1] + ey, f[2] + ez
                q = 1.0 / math.sqrt(hfx * hfx + hfy * hfy + hfz * hfz)
                nhf = max((nx * hfx + ny * hfy + nz * hfz) * q, 0.0)
                spec_f = gloss * 0.12 * nhf**16 * open_
                for ch in range(3):
                    base = cr if ch == 0 else (cg if ch == 1 else cb)
                    # light scattered under the skin reddens and softens the terminator
                    w = 0.36 if ch == 0 else (0.16 if ch == 1 else 0.10)
                    kd = max((nk + w) / (1 + w), 0.0)
                    kd = kd * kd * 0.35 + kd * 0.65
                    soft = lit + (1 - lit) * (0.16 if ch == 0 else (0.05 if ch == 1 else 0.03))
                    # occlusion bleeds the skin's own colour instead of going grey
                    occ = open_ ** (1.35 - 0.75 * base if ch == 0 else 1.35 - 0.55 * base)
                    fd = max((nf + w + 0.2) / (1.2 + w), 0.0) * occ
                    amb = occ * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    e = base * (kd * soft * light[1, ch] + fd * light[3, ch] + amb)
                    e += spec * lit * max(nk, 0.0) * light[1, ch] + spec_f * light[3, ch]
                    e += 0.22 * rim * light[4, ch]
                    out[y, x, ch] = e
            elif m == EYE:
                lid = wa * local[a, 3] + wb * local[b, 3] + wc * local[c, 3]
                kd = max((nk + 0.5) / 1.5, 0.0) * (0.35 + 0.65 * lit)
                nr = 2.0 * (nx * ex + ny * ey + nz * ez)
                qx2, qy2, qz2 = nr * nx - ex, nr * ny - ey, nr * nz - ez
                glint = _smooth(0.945, 0.965, qx2 * k[0] + qy2 * k[1] + qz2 * k[2])
                glint2 = 0.25 * _smooth(0.93, 0.99, qx2 * f[0] + qy2 * f[1] + qz2 * f[2])
                for ch in range(3):
                    base = cr if ch == 0 else (cg if ch == 1 else cb)
                    amb = 0.9 * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    e = base * lid * (0.9 * kd * light[1, ch] + 0.6 * light[3, ch] + amb)
                    e += (glint * (0.35 + 0.65 * lit) * 0.75 + glint2) * light[1, ch] * lid
                    out[y, x, ch] = e
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
                    base = cr if ch == 0 else (cg if ch == 1 else cb)
                    amb = open_ * (light[5, ch] * sky + light[6, ch] * (1 - sky))
                    e = base * (kd * light[1, ch] + fd * light[3, ch] + amb)
                    out[y, x, ch] = e + spec * light[1, ch]
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
    for y in range(size):
        for x in range(size):
            alpha = 0.0
            r = g = b = 0.0
            for j in range(2):
                for i in range(2):
                    yy, xx = 2 * y + j, 2 * x + i
                    line = ink_cover[yy, xx] if drawn else 0.0
                    if covered[yy, xx] >= 0 or line > 0:
                        for ch in range(3):
                            v = linear[yy, xx, ch]
                            if covered[yy, xx] < 0:
                                v = background[y, x, ch]
                            v = v * (1 - line) + ink_colour[ch] * line
                            v = curve[int(min(max(v, 0.0), 2.0) * 2047.5)]
                            if ch == 0:
                                r += v
                            elif ch == 1:
                                g += v
                            else:
                                b += v
                        alpha += 1.0
                    if covered[yy, xx] >= 0:
                        mask[y, x] += 0.25
            rest = 4.0 - alpha
            for ch in range(3):
                v = background[y, x, ch]
                v = curve[int(min(max(v, 0.0), 2.0) * 2047.5)]
                s = r if ch == 0 else (g if ch == 1 else b)
                out[y, x, ch] = int(255.0 * (s + rest * v) / 4.0 + 0.5)
    return out, mask

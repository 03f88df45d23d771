"""Where a head is in each frame of a driving, to a part of a pixel: registered, not only found.

A detector looks at each frame by itself, and the head that is fitted to its landmarks shakes by
about a degree and a pixel. The frames themselves say better how the head moved between them.
"""

from dataclasses import replace

import numpy as np

from studykit.methods._warp_geometry import EYES, Head, beside_eyes, fit_head, posed

# In millimetres of the head: between the points that are compared, and how far frames are blurred.
_STEP, _BLUR = 4.0, 2.2
# The points lie in the landmarks' hull where all goes with the skull: from so far below the nose on
# there are none, nor in the eyes' ellipses so grown.
_BELOW_NOSE, _EYES_TO = 2.0, (0.0, 3.0)
_STEPS, _STILL = 6, 1e-4
# How far off the head is thought to be that landmarks give: its turn in radians, the logarithm of
# its size, its place in millimetres; and what that counts, beside each compared point.
_DOUBT, _COUNT = np.array([0.035] * 3 + [0.02] + [1.3] * 2), 0.05


class RegisteredHead:
    """A head whose motion since one frame is read off the pixels, beginning from landmarks.

    B. D. Lucas and T. Kanade 1981, "An iterative image registration technique with an application
    to stereo vision", for six numbers: the turn, size and place of the generic head, whose depth
    says how a turn moves each point. Gain and offset of the light are free in every frame, points
    that fit badly count less (Cauchy's weights), and where pixels say nothing, landmarks do.

    Parameters
    ----------
    frame : (H, W, 3) uint8
        The one that all others are compared with.
    landmarks : (68, 2) float64
        The face in it, in pixels.
    """

    def __init__(self, frame: np.ndarray, landmarks: np.ndarray) -> None:
        from scipy.interpolate import LinearNDInterpolator

        self.head = head = fit_head(landmarks)
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        steps = (np.arange(a, b, _STEP * head.scale) for a, b in zip(low, high, strict=True))
        pixels = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 2)
        depth = LinearNDInterpolator(landmarks, (head.shape @ head.rotation.T)[:, 2])(pixels)
        seen = np.column_stack([(pixels - head.offset) / head.scale, depth])
        points = seen @ head.rotation
        used = points[:, 1] < head.shape[33, 1] + _BELOW_NOSE  # not where the depth is unknown
        used &= beside_eyes(points[:, :2], head.shape[:, :2], _EYES_TO)
        self._points = points[used]
        self._light = self._read(*self._maps(frame, head), head)[0]

    def refined(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return a frame's points, moved as the head is that was fitted to them.

        Parameters
        ----------
        frame : (H, W, 3) uint8
        points : (70, 2) float64
            The 68 landmarks, and the irises' middles, which go with their eyes.
        """
        from scipy.spatial.transform import Rotation

        found = now = posed(self.head.shape, points[:68])
        maps = self._maps(frame, found)
        doubt = _DOUBT * np.array([1.0] * 4 + [found.scale] * 2)
        for _ in range(_STEPS):
            seen, along_x, along_y = self._read(*maps, now)
            light = np.column_stack([self._light, np.ones(len(seen))])
            error = seen - light @ np.linalg.lstsq(light, seen, rcond=None)[0]
            spread = 1.5 * np.median(np.abs(error)) + 0.5
            trust = 1 / (1 + (error / (2 * spread)) ** 2)
            x, y, z = now.scale * (now.rotation @ self._points.T)
            slopes = [-along_y * z, along_x * z, along_y * x - along_x * y]
            slopes += [along_x * x + along_y * y, along_x, along_y, *-light.T]
            jacobian = np.array(slopes)
            away = Rotation.from_matrix(now.rotation @ found.rotation.T).as_rotvec()
            pull = np.array([*away, np.log(now.scale / found.scale), *(now.offset - found.offset)])
            hold = _COUNT * len(seen) * (spread / doubt) ** 2
            normal = (jacobian * trust) @ jacobian.T
            normal[range(6), range(6)] += hold
            slope = (jacobian * trust) @ error
            slope[:6] += hold * pull
            step = -np.linalg.lstsq(normal, slope, rcond=None)[0]
            now = replace(
                now,
                rotation=Rotation.from_rotvec(step[:3]).as_matrix() @ now.rotation,
                scale=now.scale * np.exp(step[3]),
                offset=now.offset + step[4:6],
            )
            if np.abs(step[:4]).max() < _STILL:
                break
        ways = now.seen() - found.seen()
        return points + np.vstack([ways, *(ways[eye].mean(axis=0) for eye in EYES)])

    def _maps(self, frame: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray]:
        """Blur the part of a frame around a head: its grey and the slopes of it, and its corner."""
        from scipy.ndimage import gaussian_filter

        places, blur = head.seen(), _BLUR * head.scale
        most = np.array(frame.shape[1::-1]) - 2  # a face may have left the picture
        first = np.clip(places.min(axis=0) - 4 * blur - 4, 0, most).astype(int)
        last = np.maximum(places.max(axis=0) + 4 * blur + 4, first + 2).astype(int)
        grey = frame[first[1] : last[1], first[0] : last[0]].mean(axis=2, dtype=np.float32)
        grey = gaussian_filter(grey, blur)
        return np.stack([grey, *np.gradient(grey)[::-1]]), first

    def _read(self, maps: np.ndarray, corner: np.ndarray, head: Head) -> np.ndarray:
        """Return grey and slopes at the points of a head: (3, N)."""
        from scipy.ndimage import map_coordinates

        at = (head.seen(self._points) - corner).T[::-1]
        return np.array([map_coordinates(m, at, order=1, mode="nearest") for m in maps])

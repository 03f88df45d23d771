"""Every metric by its name in metrics.csv: what it is, and how it is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np

from studykit.media.pose import eye_opening, mouth_opening
from studykit.metrics import dynamics, identity, motion, perceptual, pixels, quality, temporal
from studykit.metrics.alignment import aligned_error
from studykit.metrics.observe import at_256, faces_found

Direction = Literal["higher", "lower"]
Against = Literal["nothing", "driving", "source", "truth", "pixels", "spool"]
Measure = Callable[..., Any]

LANDMARKS, IDENTITY, SPEECH = "landmarks", "identity", "speech"
"""Extractors that are those of the study; dlib's embedding takes the face where landmarks are."""


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes
    ----------
    name : str
        In metrics.csv.
    label : str
        As tables and pictures write it.
    unit : str
    better : {"higher", "lower"}
    extractor : str
        What found the features, "" where there are none; :data:`LANDMARKS`, :data:`IDENTITY` and
        :data:`SPEECH` stand for what sees faces in a study (:meth:`Metric.found_by`).
    group : {"reconstruction", "motion", "identity", "temporal"}
    text : str
        What it is, in one sentence for a methods section.
    against : {"nothing", "driving", "source", "truth", "pixels", "spool"}
        What a clip is compared with. Where that is not there, the metric has no row.
    measure : callable or None
        Returns a figure a frame, (T,) float, whose mean is the clip's, or one figure of the clip;
        NaN where there is none. It gets what is seen in the clip's frames, (T,) of
        :data:`studykit.metrics.observe.SEEN`, then what ``against`` names:

        - "nothing": ``measure(clip)``, which is asked of the driving as well;
        - "driving": ``measure(clip, driving, since)``, the frame that motion counts from, None
          where the method puts the source where the driving is;
        - "source": ``measure(clip, embedding)``, that of the source's face, (128,) float;
        - "truth": ``measure(clip, truth)``, what is seen in the true frames;
        - "pixels": ``measure(pair, masks)`` of one frame and its true one, a
          :class:`studykit.metrics.pixels.Comparison`; a list of figures, for the whole image and,
          if that makes sense, for the face;
        - "spool": ``measure(clip, spool)``, the frames beside the true ones, a
          :class:`studykit.metrics.quality.Spool`.

        None for a figure in the face, which comes with that of the whole image.
    """

    name: str
    label: str
    unit: str
    better: Direction
    extractor: str
    group: str
    text: str
    against: Against
    measure: Measure | None

    def found_by(self, landmarks: str) -> str:
        """Return the extractor's name, where landmarks come from the one of this name."""
        names = {LANDMARKS: "{0}", IDENTITY: "dlib-128 on {0}", SPEECH: "{0} + Silero VAD"}
        return names.get(self.extractor, self.extractor).format(landmarks)


# Curves that are shown beside the metrics, by what is seen in a clip, a driving or true frames.
SIGNALS: dict[str, Measure] = {
    "yaw": lambda seen: seen["pose"][:, 0],
    "pitch": lambda seen: seen["pose"][:, 1],
    "roll": lambda seen: seen["pose"][:, 2],
    "eye_opening": lambda seen: eye_opening(seen["landmarks"]),
    "mouth_opening": lambda seen: mouth_opening(seen["landmarks"]),
}


def _pose_apart(clip: np.ndarray, other: np.ndarray, since: int | None = None) -> np.ndarray:
    return motion.head_pose_error(clip["pose"], other["pose"], since=since)


def _apart(signal: str) -> Measure:
    of = SIGNALS[signal]
    return lambda clip, other, since=None: motion.change_error(of(clip), of(other), since=since)


def _turned(angle: int) -> Measure:
    return lambda clip, driving, since: motion.angle_errors(
        clip["pose"], driving["pose"], since=since
    )[:, angle]


def _aligned(both: Measure, of: Measure, error: Measure) -> Measure:
    return lambda clip, driving, since: aligned_error(*both(of(clip), of(driving), since), error)


def _padded(figures: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Fill up with NaN for frames that have no true one."""
    return np.pad(figures, (0, len(clip) - len(figures)), constant_values=np.nan)


def _as_lively(measure: Measure, *own: str, heard: tuple[str, ...] = ()) -> Measure:
    """Compare a clip's sum with the driving's, whose sound (``heard``) serves both."""
    return lambda clip, driving, _since: dynamics.closeness(*(
        measure(at_256(seen), *(seen[name] for name in own), *(driving[name] for name in heard))
        for seen in (clip, driving)
    ))  # fmt: skip


_SOFTLY = "the same after soft dynamic time warping within 5 frames"

# name, label, unit, better, extractor, group, text, against, measure
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("l1", "L1", "of 1", "lower", "", "reconstruction",
     "mean absolute difference of RGB from the true frame",
     "pixels", lambda pair, masks: [
         error / 255 for error in pixels.mean_absolute_error(pair, masks)]),
    ("psnr", "PSNR", "dB", "higher", "", "reconstruction",
     "peak signal-to-noise ratio against the true frame", "pixels", pixels.peak_signal_noise_ratio),
    ("ssim", "SSIM", "of 1", "higher", "", "reconstruction",
     "structural similarity of luma to the true frame", "pixels", pixels.structural_similarity),
    ("ms_ssim", "MS-SSIM", "of 1", "higher", "", "reconstruction",
     "multi-scale structural similarity of luma to the true frame",
     "pixels", pixels.multi_scale_structural_similarity),
    ("l1_face", "L1 (face)", "of 1", "lower", "", "reconstruction",
     "L1 within the true frame's face", "pixels", None),
    ("psnr_face", "PSNR (face)", "dB", "higher", "", "reconstruction",
     "PSNR within the true frame's face", "pixels", None),
    ("ssim_face", "SSIM (face)", "of 1", "higher", "", "reconstruction",
     "SSIM within the true frame's face", "pixels", None),
    ("ms_ssim_face", "MS-SSIM (face)", "of 1", "higher", "", "reconstruction",
     "MS-SSIM within the true frame's face", "pixels", None),
    ("lpips", "LPIPS", "of 1", "lower", "AlexNet", "reconstruction",
     "learned perceptual image patch similarity to the true frame",
     "pixels", lambda pair, _: [perceptual.learned_similarity(pair.image, pair.truth)]),
    ("vmaf", "VMAF", "of 100", "higher", "vmaf_v0.6.1", "reconstruction",
     "video multi-method assessment fusion against the true frames, at their own size",
     "spool", lambda clip, spool: _padded(quality.multi_method_assessment(spool), clip)),
    ("cvvdp", "ColorVideoVDP", "JOD", "higher", "standard_fhd", "reconstruction",
     "just-objectionable differences from the true frames on a full HD display; 10 is none",
     "spool", lambda clip, spool: quality.visible_difference(spool)),
    ("niqe", "NIQE", "distance", "lower", "scikit-video", "reconstruction",
     "distance of every sixth frame's luma from statistics of natural photographs",
     "nothing", lambda clip: clip["niqe"]),
    ("akd", "AKD", "px", "lower", LANDMARKS, "motion",
     "average Euclidean distance of the 68 landmarks from those of the true frame",
     "truth", lambda clip, truth: motion.keypoint_distance(clip["landmarks"], truth["landmarks"])),
    ("mkr", "MKR", "%", "lower", LANDMARKS, "motion",
     "share of the true frames' keypoints that are missing in the clip",
     "truth", lambda clip, truth: motion.missing_keypoint_rate(
         clip["landmarks"], truth["landmarks"])),
    ("head_pose_error", "head pose error", "degrees", "lower", LANDMARKS, "motion",
     "angle between the head's rotation and that of the true frame", "truth", _pose_apart),
    ("yaw_error", "yaw error", "degrees", "lower", LANDMARKS, "motion",
     "difference of yaw from the true frame", "truth", _apart("yaw")),
    ("pitch_error", "pitch error", "degrees", "lower", LANDMARKS, "motion",
     "difference of pitch from the true frame", "truth", _apart("pitch")),
    ("roll_error", "roll error", "degrees", "lower", LANDMARKS, "motion",
     "difference of roll from the true frame", "truth", _apart("roll")),
    ("eye_opening_error", "eye opening error", "ratio", "lower", LANDMARKS, "motion",
     "difference of the eye aspect ratio from the true frame", "truth", _apart("eye_opening")),
    ("mouth_opening_error", "mouth opening error", "ratio", "lower", LANDMARKS, "motion",
     "difference of the mouth's opening over its width from the true frame",
     "truth", _apart("mouth_opening")),
    ("landmark_motion_error", "landmark motion error", "% of face size", "lower", LANDMARKS,
     "motion", "distance of the landmarks' way since the reference frame from that in the driving",
     "driving", lambda clip, driving, since: motion.landmark_motion_error(
         clip["landmarks"], driving["landmarks"], since or 0)),
    ("landmark_motion_error_aligned", "landmark motion error (aligned)", "% of face size", "lower",
     LANDMARKS, "motion", _SOFTLY, "driving", _aligned(
         motion.landmark_ways, itemgetter("landmarks"), motion.keypoint_distance)),
    ("head_motion_error", "head motion error", "degrees", "lower", LANDMARKS, "motion",
     "angle between the head's rotation, since the reference frame where motion is relative, and "
     "that in the driving", "driving", _pose_apart),
    ("head_motion_error_aligned", "head motion error (aligned)", "degrees", "lower", LANDMARKS,
     "motion", _SOFTLY, "driving", _aligned(
         motion.head_rotations, itemgetter("pose"), motion.rotation_angle)),
    ("yaw_motion_error", "yaw motion error", "degrees", "lower", LANDMARKS, "motion",
     "difference of the yaw so taken from that in the driving", "driving", _turned(0)),
    ("pitch_motion_error", "pitch motion error", "degrees", "lower", LANDMARKS, "motion",
     "difference of the pitch so taken from that in the driving", "driving", _turned(1)),
    ("roll_motion_error", "roll motion error", "degrees", "lower", LANDMARKS, "motion",
     "difference of the roll so taken from that in the driving", "driving", _turned(2)),
    ("eye_motion_error", "eye motion error", "ratio", "lower", LANDMARKS, "motion",
     "difference of the eye aspect ratio so taken from that in the driving",
     "driving", _apart("eye_opening")),
    ("eye_motion_error_aligned", "eye motion error (aligned)", "ratio", "lower", LANDMARKS,
     "motion", _SOFTLY, "driving", _aligned(
         motion.changes, SIGNALS["eye_opening"], motion.change_error)),
    ("mouth_motion_error", "mouth motion error", "ratio", "lower", LANDMARKS, "motion",
     "difference of the mouth's opening so taken from that in the driving",
     "driving", _apart("mouth_opening")),
    ("mouth_motion_error_aligned", "mouth motion error (aligned)", "ratio", "lower", LANDMARKS,
     "motion", _SOFTLY, "driving", _aligned(
         motion.changes, SIGNALS["mouth_opening"], motion.change_error)),
    ("lip_dynamics", "lip dynamics", "of 1", "higher", LANDMARKS, "motion",
     "closeness to the driving in how much the distances between lip points vary (THEval)",
     "driving", _as_lively(dynamics.lip_dynamics)),
    ("eyebrow_dynamics", "eyebrow dynamics", "of 1", "higher", LANDMARKS, "motion",
     "closeness to the driving in how much the brows move (THEval)",
     "driving", _as_lively(dynamics.eyebrow_dynamics)),
    ("head_motion_dynamics", "head motion dynamics", "of 1", "higher", LANDMARKS, "motion",
     "closeness to the driving in how much the head turns and moves (THEval)",
     "driving", _as_lively(dynamics.head_motion_dynamics, "pose")),
    ("silent_lip_stability", "silent lip stability", "of 1", "higher", SPEECH, "motion",
     "closeness to the driving in how much the lips move where its sound has no speech (THEval)",
     "driving", _as_lively(dynamics.silent_lip_stability, heard=("voice",))),
    ("lip_sync", "lip sync", "of 1", "higher", SPEECH, "motion",
     "closeness to the driving in how the mouth opens with the loudness of its speech (THEval)",
     "driving", _as_lively(dynamics.lip_sync, heard=("voice", "loudness"))),
    ("face_found", "face found", "% of frames", "higher", LANDMARKS, "motion",
     "share of the frames that show a face",
     "nothing", lambda clip: 100 * float(faces_found(clip).mean())),
    ("aed", "AED (source)", "L2", "lower", IDENTITY, "identity",
     "average Euclidean distance of identity embeddings, of every sixth frame, from the source's",
     "source", lambda clip, person: identity.embedding_distance(clip["embedding"], person)),
    ("csim", "CSIM", "of 1", "higher", IDENTITY, "identity",
     "cosine similarity of identity embeddings, of every sixth frame, with the source's",
     "source", lambda clip, person: identity.cosine_similarity(clip["embedding"], person)),
    ("aed_truth", "AED", "L2", "lower", IDENTITY, "identity",
     "average Euclidean distance of identity embeddings, of every sixth frame, from the true "
     "frame's",
     "truth", lambda clip, truth: identity.embedding_distance(
         clip["embedding"], truth["embedding"])),
    ("sms", "SMS", "px", "lower", LANDMARKS, "temporal",
     "distance (L1, summed over the landmarks' coordinates, frames at 256 x 256) of the landmarks "
     "from half way between the frames beside them (Zhao, Wu and Guo 2021, eq. 9)",
     "nothing", lambda clip: temporal.landmark_smoothness(at_256(clip))),
    ("acceleration", "landmark acceleration", "% of eye distance", "lower", LANDMARKS, "temporal",
     "length of the landmarks' second difference over frames",
     "nothing", lambda clip: temporal.acceleration(clip["landmarks"])),
    ("jerk", "jerk", "% of eye distance", "lower", LANDMARKS, "temporal",
     "length of the landmarks' third difference over frames",
     "nothing", lambda clip: temporal.jerk(clip["landmarks"])),
    ("flow_warping_error", "flow-warping error", "1e-3", "lower", "TV-L1", "temporal",
     "squared difference of a frame from the next one, warped onto it by optical flow",
     "nothing", lambda clip: clip["flow_warping_error"]),
    ("flicker", "flicker", "of 255", "lower", LANDMARKS, "temporal",
     "change of the background's luma from frame to frame",
     "nothing", lambda clip: clip["flicker"]),
)  # fmt: skip

METRICS: dict[str, Metric] = {row[0]: Metric(*row) for row in _ROWS}

# The one metric of each group that a study's claims are about, chosen before any was rated.
PRIMARY = {
    "reconstruction": "ms_ssim",
    "motion": "landmark_motion_error",
    "identity": "csim",
    "temporal": "flow_warping_error",
}

# A curve has its metric's name, but for these, which are known by what each frame's figure is.
CURVES = {"akd": "landmark_distance", "aed": "identity_distance"}

# Curves of which one end is a clip's worst moment, and which end that is.
WORST_BY: dict[str, Direction] = {
    "psnr": "lower",
    "psnr_face": "lower",
    "landmark_distance": "higher",
    "landmark_motion_error": "higher",
    "head_pose_error": "higher",
    "head_motion_error": "higher",
    "flow_warping_error": "higher",
    "jerk": "higher",
    "identity_distance": "higher",
}

"""Every metric by its name in metrics.csv: unit, direction, what it is seen by, and in words."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]


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
        What found the landmarks or embeddings, "" where there are none.
    group : {"reconstruction", "motion", "identity", "temporal"}
    text : str
        What it is, in one sentence for a methods section.
    """

    name: str
    label: str
    unit: str
    better: Direction
    extractor: str
    group: str
    text: str


# name, label, unit, better, extractor, group, text
_ROWS: tuple[tuple[str, str, str, Direction, str, str, str], ...] = (
    ("l1", "L1", "of 1", "lower", "", "reconstruction",
     "mean absolute difference of RGB from the true frame"),
    ("psnr", "PSNR", "dB", "higher", "", "reconstruction",
     "peak signal-to-noise ratio against the true frame"),
    ("ssim", "SSIM", "of 1", "higher", "", "reconstruction",
     "structural similarity of luma to the true frame"),
    ("ms_ssim", "MS-SSIM", "of 1", "higher", "", "reconstruction",
     "multi-scale structural similarity of luma to the true frame"),
    ("l1_face", "L1 (face)", "of 1", "lower", "", "reconstruction",
     "L1 within the true frame's face"),
    ("psnr_face", "PSNR (face)", "dB", "higher", "", "reconstruction",
     "PSNR within the true frame's face"),
    ("ssim_face", "SSIM (face)", "of 1", "higher", "", "reconstruction",
     "SSIM within the true frame's face"),
    ("ms_ssim_face", "MS-SSIM (face)", "of 1", "higher", "", "reconstruction",
     "MS-SSIM within the true frame's face"),
    ("lpips", "LPIPS", "of 1", "lower", "AlexNet", "reconstruction",
     "learned perceptual image patch similarity to the true frame"),
    ("akd", "AKD", "px", "lower", "dlib-68", "motion",
     "average distance of the 68 landmarks from those of the true frame"),
    ("mkr", "MKR", "%", "lower", "dlib-68", "motion",
     "share of the true frames' keypoints that are missing in the clip"),
    ("head_pose_error", "head pose error", "degrees", "lower", "dlib-68", "motion",
     "angle between the head's rotation and that of the true frame"),
    ("yaw_error", "yaw error", "degrees", "lower", "dlib-68", "motion",
     "difference of yaw from the true frame"),
    ("pitch_error", "pitch error", "degrees", "lower", "dlib-68", "motion",
     "difference of pitch from the true frame"),
    ("roll_error", "roll error", "degrees", "lower", "dlib-68", "motion",
     "difference of roll from the true frame"),
    ("eye_opening_error", "eye opening error", "ratio", "lower", "dlib-68", "motion",
     "difference of the eye aspect ratio from the true frame"),
    ("mouth_opening_error", "mouth opening error", "ratio", "lower", "dlib-68", "motion",
     "difference of the mouth's opening over its width from the true frame"),
    ("landmark_motion_error", "landmark motion error", "% of face size", "lower", "dlib-68",
     "motion", "distance of the landmarks' way since the first frame from that in the driving"),
    ("head_motion_error", "head motion error", "degrees", "lower", "dlib-68", "motion",
     "angle between the head's rotation, since the first frame where motion is relative, and "
     "that in the driving"),
    ("yaw_motion_error", "yaw motion error", "degrees", "lower", "dlib-68", "motion",
     "difference of the yaw so taken from that in the driving"),
    ("pitch_motion_error", "pitch motion error", "degrees", "lower", "dlib-68", "motion",
     "difference of the pitch so taken from that in the driving"),
    ("roll_motion_error", "roll motion error", "degrees", "lower", "dlib-68", "motion",
     "difference of the roll so taken from that in the driving"),
    ("eye_motion_error", "eye motion error", "ratio", "lower", "dlib-68", "motion",
     "difference of the eye aspect ratio so taken from that in the driving"),
    ("mouth_motion_error", "mouth motion error", "ratio", "lower", "dlib-68", "motion",
     "difference of the mouth's opening so taken from that in the driving"),
    ("face_found", "face found", "% of frames", "higher", "dlib-68", "motion",
     "share of the frames that show a face"),
    ("aed", "AED", "L2", "lower", "dlib-128", "identity",
     "average Euclidean distance of identity embeddings, of every sixth frame, from the source's"),
    ("csim", "CSIM", "of 1", "higher", "dlib-128", "identity",
     "cosine similarity of identity embeddings, of every sixth frame, with the source's"),
    ("aed_truth", "AED (truth)", "L2", "lower", "dlib-128", "identity",
     "average Euclidean distance of identity embeddings, of every sixth frame, from the true "
     "frame's"),
    ("sms", "SMS", "% of eye distance", "lower", "dlib-68", "temporal",
     "length of the landmarks' second difference over frames"),
    ("jerk", "jerk", "% of eye distance", "lower", "dlib-68", "temporal",
     "length of the landmarks' third difference over frames"),
    ("flow_warping_error", "flow-warping error", "1e-3", "lower", "TV-L1", "temporal",
     "squared difference of a frame from the next one, warped onto it by optical flow"),
    ("flicker", "flicker", "of 255", "lower", "dlib-68", "temporal",
     "change of the background's luma from frame to frame"),
)  # fmt: skip

METRICS: dict[str, Metric] = {row[0]: Metric(*row) for row in _ROWS}

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

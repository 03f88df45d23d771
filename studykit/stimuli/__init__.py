"""Rendered faces that the project owns, each frame with its truth."""

from studykit.stimuli.identity import Identity
from studykit.stimuli.motion import motion
from studykit.stimuli.render import Frame, flow, render
from studykit.stimuli.state import Expression, Pose, State, transferred
from studykit.stimuli.write import Stimulus, read_identity, write_demo_inputs, write_stimuli

__all__ = [
    "Expression",
    "Frame",
    "Identity",
    "Pose",
    "State",
    "Stimulus",
    "flow",
    "motion",
    "read_identity",
    "render",
    "transferred",
    "write_demo_inputs",
    "write_stimuli",
]

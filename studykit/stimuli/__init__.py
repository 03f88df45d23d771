"""Rendered faces that the project owns, each frame with its truth."""

from studykit.stimuli.identity import Identity
from studykit.stimuli.render import Frame, flow, render
from studykit.stimuli.state import Expression, Pose

__all__ = ["Expression", "Frame", "Identity", "Pose", "flow", "render"]

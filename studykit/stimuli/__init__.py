"""Rendered faces that the project owns, each frame with its truth."""

from studykit.stimuli.identity import Identity as Identity
from studykit.stimuli.motion import motion as motion
from studykit.stimuli.render import Frame as Frame, flow as flow, render as render
from studykit.stimuli.state import (
    Expression as Expression,
    Pose as Pose,
    State as State,
    transferred as transferred,
)
from studykit.stimuli.write import (
    Stimulus as Stimulus,
    read_identity as read_identity,
    write_demo_inputs as write_demo_inputs,
    write_stimuli as write_stimuli,
)

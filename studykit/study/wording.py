"""The words that raters read, in English; a study file may replace each of them.

The wording of a criterion's steps is part of the measurement: it is hashed with the study.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """One rated quality of a clip.

    Attributes
    ----------
    name : str
        Its name in data.
    label, question : str
        Its name on the page, and what is asked of a clip.
    comparison : str
        What is asked of two clips.
    steps : tuple of str
        What each step of the scale means, worst to best; the part before the first colon stands
        large, and "" is a step between two that have words.
    """

    name: str
    label: str
    question: str
    comparison: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question about the rater, asked once, that may be left open.

    Attributes
    ----------
    name : str
        Its name in data.
    label : str
        The question.
    choices : tuple of str
        What can be answered.
    """

    name: str
    label: str
    choices: tuple[str, ...]


CRITERIA = {
    criterion.name: criterion
    for criterion in (
        Criterion(
            "naturalness",
            "Naturalness of motion",
            "How natural is the motion of head and face?",
            "In which clip is the motion of head and face more natural?",
            (
                "Bad: frozen, or moves as nobody could",
                "Poor: clearly artificial most of the time",
                "Fair: artificial at some moments",
                "Good: small oddities only",
                "Excellent: as alive as a recording",
            ),
        ),
        Criterion(
            "structure",
            "Facial structure",
            "How well does the face keep its shape and its parts their places?",
            "In which clip does the face keep its shape better?",
            (
                "Bad: torn, or no longer a face",
                "Poor: clearly misshapen most of the time",
                "Fair: misshapen at some moments",
                "Good: slightly off only",
                "Excellent: right from start to end",
            ),
        ),
        Criterion(
            "jitter",
            "Freedom from jitter and tearing",
            "How free is the picture from shaking, flicker and tearing?",
            "Which clip shows less shaking, flicker and tearing?",
            (
                "Bad: shakes or tears all the time",
                "Poor: often, and it is annoying",
                "Fair: noticeable at some moments",
                "Good: barely noticeable",
                "Excellent: none to be seen",
            ),
        ),
        Criterion(
            "consistency",
            "Consistency over time",
            "How well do face, hair and background look the same from moment to moment?",
            "In which clip do face, hair and background change less from moment to moment?",
            (
                "Bad: the looks change all the time",
                "Poor: large changes, or many",
                "Fair: noticeable changes at some moments",
                "Good: small changes only",
                "Excellent: the same from start to end",
            ),
        ),
    )
}

# What raters are asked of a clip as a whole; and what is only computed: the mean over criteria.
OVERALL, MEAN = "overall", "mean"
OVERALL_CRITERION = Criterion(
    OVERALL,
    "Overall",
    "How good is the clip?",
    "Which clip is better?",
    ("Bad", "Poor", "Fair", "Good", "Excellent"),
)

QUESTIONS = {
    question.name: question
    for question in (
        Question(
            "age_band",
            "How old are you?",
            ("18 to 24", "25 to 34", "35 to 44", "45 to 54", "55 to 64", "65 or older"),
        ),
        Question(
            "vision",
            "How well do you see the screen right now?",
            ("Well, without glasses", "Well, with glasses or lenses", "Not so well"),
        ),
        Question(
            "display",
            "What are you looking at?",
            ("A computer's own screen", "A separate monitor", "A tablet", "A phone"),
        ),
    )
}

CONSENT = (
    "You will watch short video clips of faces and say how good they look. Some show distorted "
    "faces. Taking part is voluntary: you can pause or stop at any time. Your answers are stored "
    "under a random code, with the times at which you gave them; you are asked for neither your "
    "name nor your address nor anything else that tells who you are. The answers are used for "
    "research and may be published. Please take part only if you are 18 or older."
)

TEXTS = {
    "title": "How do these clips look?",
    "welcome": "Thank you for helping. There are no right or wrong answers: we want your view.",
    "consent_title": "Before you begin",
    "agree": "I agree, and take part",
    "decline": "I do not want to take part",
    "declined": "Nothing was stored. You can close this page.",
    "questions_title": "A few questions about you",
    "questions_hint": "Each may be left open.",
    "no_answer": "No answer",
    "begin": "Begin",
    "training_title": "Practice",
    "training_banner": "Practice: these answers do not count. Take your time to get used to it.",
    "training_done": "That was the practice. From now on your answers count.",
    "rating_title": "Your rating",
    "next": "Next",
    "undo": "Back to the last clip",
    "pause": "Pause",
    "resume": "Go on",
    "paused": "Paused",
    "paused_hint": "Everything that you answered is stored. You can go on now, later, or on "
    "another computer.",
    "play": "Play",
    "replay": "Play again",
    "half_speed": "Half speed",
    "frame_step": "One frame on",
    "watch_hint": "Watch the clip to its end, then answer.",
    "answer_all_hint": "Answer every question to go on.",
    "clip": "Clip",
    "source": "Made from this picture",
    "driving": "Recording",
    "first_clip": "First clip",
    "second_clip": "Second clip",
    "first_better": "The first clip",
    "second_better": "The second clip",
    "beside_driving": "The recording shows the motion that was to be reproduced. Judge the clip "
    "beside it.",
    "progress": "{done} of {total}",
    "keys_hint": "Keys: 1 to {highest} answer, Enter goes on, Backspace goes back, space plays.",
    "saving": "Storing your answer",
    "saved": "Stored",
    "rater_id": "Your code: {rater}. Keep it to go on later or on another computer.",
    "finished_title": "Thank you!",
    "finished": "All your answers are stored. You can close this page.",
    "known": "You have begun already, under the code {rater}.",
    "sound": "Sound",
    "loading": "Loading",
    "link_wrong": "This link leads nowhere: it may be cut off, or no longer hold. Ask the people "
    "who sent it for a new one.",
    "begun_elsewhere": "You have begun already. Go on in the browser in which you began, or ask "
    "the people who invited you for a new link.",
    "too_many": "Too many wrong links came from here. Please try again in a minute.",
    "keep_link": "To go on later or on another computer, keep the address of this page.",
    "retry": "Try again",
    "unsaved": "Not stored yet: trying again. If this stays, open this page anew; your answers are "
    "kept.",
    "error": "This did not work. If it stays, tell the people who asked you.",
}

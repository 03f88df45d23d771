"""Trains motion models on rendered faces (``python -m studykit.training``).

``--config synth-256`` is the First Order Motion Model of ``fomm``, ``--config regions-256`` the
soft regions of ``regions``; the latter begins with the former's weights. ``enhance-256`` is what
cleans their frames: its data need Paddle, too, where they are not in the cache already. For
``regions``, ``--export RUN --out FILE.safetensors`` is the whole of shipping so far.

It needs ``pip install "torch>=2.2"`` and a clone of the repository. From a recipe to the
checkpoint that the package ships:

1.  Train; it goes on with ``--resume`` after any interruption::

        python -m studykit.training --config synth-256 --out runs/synth-256

    A run may move: on a GPU, ``--resume`` goes on from what a CPU began. On a rented one,
    ``--minutes 20 --fit`` has the recipe end with the minutes.

2.  Ship: convert, measure on the benchmark and write the model card, in a few minutes::

        python -m studykit.training --export runs/synth-256 --out studykit/checkpoints/synth-256

    The same by hand: ``--export RUN --out FILE.safetensors`` converts alone; the run's
    ``recipe.json``, as YAML, is ``recipe.yaml``; ``log.jsonl`` is copied; ``checkpoint.json`` holds
    the file's ``sha256`` and ``bytes``; ``studykit stimuli benchmark`` gives figures and pictures.
    The card's words stand in ``model_card.md`` here; after an edit, ``--card FOLDER`` writes it.

3.  Store what PyTorch computes with it, for the test that holds Paddle to it::

        python -m tests.activations

4.  See that a run can be repeated: ten minutes of the same recipe log the same figures::

        python -m studykit.training --config studykit/checkpoints/synth-256/recipe.yaml \\
            --out runs/again --minutes 10
        python -m studykit.training --compare-log studykit/checkpoints/synth-256 runs/again
"""

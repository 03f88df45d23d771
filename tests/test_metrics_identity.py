"""Distances of embeddings, worked out by hand and seen on two people."""

import numpy as np
import pytest

from studykit.media.dlib_faces import identity_embedding
from studykit.media.faces import find_face
from studykit.metrics.identity import cosine_similarity, embedding_distance


def test_worked_example():
    embeddings = np.array([[3.0, 4.0], [0.0, 5.0], [np.nan, np.nan]])
    reference = np.array([0.0, 2.0])
    np.testing.assert_allclose(
        embedding_distance(embeddings, reference), [np.sqrt(13), 3.0, np.nan]
    )
    np.testing.assert_allclose(cosine_similarity(embeddings, reference), [0.8, 1.0, np.nan])


def test_a_reference_may_be_given_for_each_frame():
    embeddings = np.random.default_rng(0).normal(size=(4, 128))
    np.testing.assert_allclose(embedding_distance(embeddings, embeddings), 0)
    np.testing.assert_allclose(cosine_similarity(embeddings, 2 * embeddings), 1)
    np.testing.assert_allclose(cosine_similarity(embeddings, -embeddings), -1)


def test_a_mirrored_person_is_nearer_than_another_one(portrait):
    def embedded(image: np.ndarray) -> np.ndarray:
        return identity_embedding(image, find_face(image).landmarks)

    person, mirrored = embedded(portrait), embedded(np.ascontiguousarray(portrait[:, ::-1]))
    stranger = embedded(_rendered())
    both = np.stack([mirrored, stranger])
    distance, cosine = embedding_distance(both, person), cosine_similarity(both, person)
    assert distance[0] < 0.5 < distance[1]
    assert cosine[0] > cosine[1]
    assert cosine[0] == pytest.approx(1, abs=0.07)


def _rendered() -> np.ndarray:
    from studykit.stimuli import Identity, render

    return render(Identity.random(4, "photo")).image

"""Whether a clip shows the source's person, by embeddings that a face recognition network gives.

Papers use several networks, whose figures can't be compared: always name it. Here it is dlib's,
with 128 numbers (:func:`studykit.media.faces.identity_embedding`).
"""

import numpy as np


def embedding_distance(embeddings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of embeddings from a reference: (T,), NaN where unknown.

    From the true frames', its mean is the average Euclidean distance, AED, of Siarohin et al. 2019
    ("Animating Arbitrary Objects via Deep Motion Transfer"): identity there, while later papers use
    the name for expressions too. From the source's, a clip that holds the source still is best,
    which is why the papers don't take it. Their published code averages the absolute differences
    of OpenFace's embeddings instead, so that no figure of theirs can stand beside these. 0 is best;
    dlib takes two faces less than 0.6 apart for one person.

    Parameters
    ----------
    embeddings : (T, 128) float
        NaN where there is none.
    reference : (128,) or (T, 128) float
        The source's, or those of the true frames.
    """
    return np.linalg.norm(embeddings - reference, axis=1)


def cosine_similarity(embeddings: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the cosine between embeddings and a reference, -1 to 1: (T,), NaN where unknown.

    Its mean is CSIM, of Zakharov et al. 2019 ("Few-shot adversarial learning of realistic neural
    talking head models"); they, and most, take it of ArcFace's embeddings. dlib's lie close
    together: two persons may get 0.9, so that differences are small. Higher is better.

    Parameters
    ----------
    embeddings : (T, 128) float
        NaN where there is none.
    reference : (128,) or (T, 128) float
    """
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(reference, axis=-1)
    return (embeddings * reference).sum(axis=1) / lengths

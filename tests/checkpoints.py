"""Generated checkpoints, for tests and for rehearsals without the published weights.

    python -m tests.checkpoints OUT.safetensors [--network vox-256] [--seed 0]

writes one with the layout of a published checkpoint, which ``--weights OUT.safetensors`` takes.
"""

import argparse
import copy

import numpy as np

from studykit.methods import _enhance_network, checkpoint_files, weights
from studykit.methods._fomm_dygraph import build_networks
from studykit.methods._sparse_network import POINTS, tensor_shapes
from studykit.methods.checkpoint_files import Checkpoint
from studykit.methods.random_weights import SMALL, random_checkpoint
from studykit.methods.sparse import shape_of


def small_config(**common):
    """Return settings of a network that runs in milliseconds, with some of them changed."""
    config = copy.deepcopy(SMALL)
    config["common_params"].update(common)
    return config


def mobile_config():
    """Return settings of a small network of the mobile kind."""
    config = small_config()
    config["kp_detector_cfg"].update(mobile_net=True, scale_factor=0.25)
    config["generator_cfg"].update(mobile_net=True)
    config["generator_cfg"]["dense_motion_params"].update(scale_factor=0.25)
    return config


def sparse_checkpoint(seed=0, size=64, **shape):
    """Return random networks of ``sparse``, which find the motion of small images."""
    shape = {"side": 64, "whole": [8, 12], "local": [8, 8], "code": 16, **shape}
    small = small_config(num_kp=POINTS, estimate_jacobian=False)
    config = {**small, "network": "sparse", "motion_cfg": shape, "size": size}
    config["trained_on"] = "nothing"
    made = random_checkpoint(small, seed, size)
    painting = {k: v for k, v in made.generator.items() if not k.startswith("dense_motion")}
    networks = {
        "motion": motion_tensors(shape_of(config), seed),
        "generator": painting,
        "kp_detector": made.kp_detector,
    }
    return Checkpoint(f"sparse-{seed}", "", config, networks)


def enhance_checkpoint(seed=0, strength=0.05, taken=-40.0):
    """Return a random network of ``enhance``.

    It changes frames by as much as is asked, and takes from the source by the logit ``taken``.
    """
    rng, tensors = np.random.default_rng(seed), {}
    for name, shape in _enhance_network.tensor_shapes().items():
        spread = (2 / np.prod(shape[1:])) ** 0.5 * (strength if name.startswith("times") else 1)
        tensor = rng.normal(0, spread, shape) if len(shape) > 1 else np.zeros(shape)
        tensors[name] = tensor.astype(np.float32)
    tensors["near.weight"][:], tensors["near.bias"][:] = 0, taken
    config = {"network": "enhance", "size": 256, "trained_on": "nothing"}
    return Checkpoint(f"enhance-{seed}", "", config, {"enhance": tensors})


def motion_tensors(shape, seed=0):
    """Return random tensors of a motion network of ``sparse`` that answer to what they get."""
    rng, tensors = np.random.default_rng(seed), {}
    for name, size in tensor_shapes(shape).items():
        spread = 0.1 if len(size) == 1 else (1 / np.prod(size[1:])) ** 0.5
        values = rng.normal(0, spread * (0.3 if ".head." in name else 1), size)
        tensors[name] = (values + name.endswith(".scale")).astype(np.float32)
    return tensors


def layout(config):
    """Return the shapes of the tensors of both networks, by name."""
    return [
        {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        for network in build_networks(config)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="the .safetensors file to write")
    parser.add_argument("--network", choices=weights.names(), default="vox-256")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = weights.published_config(arguments.network)
    checkpoint_files.save(random_checkpoint(config, arguments.seed, size=128), arguments.out)


if __name__ == "__main__":
    main()

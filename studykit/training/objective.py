"""From a batch to the terms of the loss, as one module that a GPU can run compiled."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.training import losses
from studykit.training.batches import Batch, Marked
from studykit.training.networks import resized, resized_field
from studykit.training.recipe import LossWeights


class Objective(nn.Module):
    """All terms but the discriminator's, which is trained in between.

    Parameters
    ----------
    kp_detector, generator
        As :func:`studykit.training.networks.build` gives them.
    bf16 : bool
        Convolve in half precision.
    vgg : losses.VGG19, optional
        For the perceptual term.
    """

    def __init__(self, kp_detector: Any, generator: Any, bf16: bool, vgg: Any = None) -> None:
        super().__init__()
        self.kp_detector, self.generator, self.bf16, self.vgg = kp_detector, generator, bf16, vgg

    def forward(
        self,
        batch: Batch,
        spline: losses.ThinPlateSpline,
        taught: Tensor,
        weights: LossWeights,
        generates: bool,
        marked: Marked | None = None,
        paints: bool = True,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the weighted terms, and what was generated, (B, 3, S, S).

        Parameters
        ----------
        batch : Batch
        spline : ThinPlateSpline
            Of as many samples as equivariance is asked of.
        taught : (B,) bool
            Samples that are generated from the true motion in place of the estimated one.
        weights : LossWeights
        generates : bool
            False while keypoints alone are trained.
        marked : Marked, optional
            Samples that are moved by their landmarks.
        paints : bool
            False while only motion is learned: nothing is generated.
        """
        count, few = len(batch.source), len(spline.affine)
        with torch.autocast(batch.source.device.type, torch.bfloat16, enabled=self.bf16):
            images = [batch.source, batch.driving, spline.image(batch.driving[:few])]
            found = self.kp_detector(torch.cat(images))
            source_kp, driving_kp, bent_kp = (
                {name: value[k * count : (k + 1) * count] for name, value in found.items()}
                for k in range(3)
            )
            terms = losses.keypoint_supervision(
                {name: value[: 2 * count] for name, value in found.items()},
                torch.cat([batch.source_kp, batch.driving_kp]),
                weights,
            )
            plain_kp = {name: value[:few] for name, value in driving_kp.items()}
            terms |= losses.equivariance(plain_kp, bent_kp, spline, weights)
            if not generates:
                return terms, None
            given = (taught, batch.deformation, batch.seen)
            if marked is not None:
                source_kp = marked.put(source_kp, marked.source)
                driving_kp = marked.put(driving_kp, marked.driving)
            if paints:
                out = self.generator(batch.source, driving_kp, source_kp, given)
            else:
                motion = self.generator.dense_motion_network
                out = motion(batch.source, driving_kp, source_kp)
        image = out.get("prediction")
        counts = losses.attention(batch.face, batch.landmarks, weights)
        if image is not None:
            terms |= losses.reconstruction(image, batch.driving, counts, weights)
            if weights.fidelity:
                terms["fidelity"] = losses.fidelity(image, batch.driving, batch.face, weights)
        size, halved = batch.seen.shape[2:], F.avg_pool2d(counts, 2)
        terms |= losses.motion_supervision(
            resized_field(out["deformation"], size),
            resized(out["occlusion_logit"], size) if "occlusion_logit" in out else None,
            batch.deformation,
            batch.seen,
            halved,
            weights,
        )
        if weights.masks:
            grid = out["mask_logit"].shape[2:]
            terms["masks"] = losses.mask_supervision(
                out["motions"],
                out["mask_logit"],
                resized_field(batch.deformation, grid),
                resized(batch.seen, grid),
                resized(halved, grid),
                weights,
            )
        if self.vgg is not None and image is not None:
            terms["perceptual"] = weights.perceptual * self.vgg.distance(image, batch.driving)
        return terms, image

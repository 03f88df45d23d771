"""From a batch to the terms of the loss, as one module that a GPU can run compiled."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studykit.training import losses
from studykit.training.batches import Batch, Marked
from studykit.training.networks import Keypoints, resized, resized_field
from studykit.training.recipe import LossWeights
from studykit.training.regions import true_covariances


class Objective(nn.Module):
    """All terms but the discriminator's, which is trained in between.

    Parameters
    ----------
    networks : dict
        As :func:`studykit.training.families.build` gives them: ``kp_detector``, ``generator``, and
        ``background`` where its motion is found.
    bf16 : bool
        Convolve in half precision.
    vgg : losses.VGG19, optional
        For the perceptual term.
    """

    def __init__(self, networks: dict[str, Any], bf16: bool, vgg: Any = None) -> None:
        super().__init__()
        self.kp_detector, self.generator = networks["kp_detector"], networks["generator"]
        self.background = networks.get("background")
        self.bf16, self.vgg = bf16, vgg

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
        half = self._half(batch)
        source_kp, driving_kp, terms = self._found(batch, spline, weights, marked)
        with half:
            if self.background is not None:
                affine = self.background(batch.source, batch.driving)
                driving_kp["background"] = affine
                missed = (affine - batch.background).abs().mean()
                terms["background"] = weights.background * missed
            if not generates:
                return terms, None
            given = (taught, batch.deformation, batch.seen)
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

    def _half(self, batch: Batch) -> Any:
        return torch.autocast(batch.source.device.type, torch.bfloat16, enabled=self.bf16)

    def _found(
        self,
        batch: Batch,
        spline: losses.ThinPlateSpline,
        weights: LossWeights,
        marked: Marked | None,
    ) -> tuple[Keypoints, Keypoints, dict[str, Tensor]]:
        """Return sources' and drivings' keypoints to move by, and the terms of finding them."""
        count, few = len(batch.source), len(spline.affine)
        half = self._half(batch)
        # Coordinates in bf16 are off by half a pixel. The First Order Motion Model was trained so,
        # and its recipe must log what it logged.
        full = torch.autocast(batch.source.device.type, enabled=False)
        exact = half if self.background is None else full
        # Regions that are not trained need no truth; the log of fomm's recipes names it always.
        learns = self.background is None or next(self.kp_detector.parameters()).requires_grad
        images, terms = [batch.source, batch.driving], {}
        if learns:
            with exact:
                images.append(spline.image(batch.driving[:few]))
        with half:
            found = self.kp_detector(torch.cat(images))
        source_kp, driving_kp, bent_kp = (
            {name: value[k * count : (k + 1) * count] for name, value in found.items()}
            for k in range(3)
        )
        if learns:
            with exact:
                both = torch.cat([batch.source_landmarks, batch.landmarks])
                regional = "covariance" in found
                spread = true_covariances(both, batch.face.shape[-1]) if regional else None
                terms |= losses.keypoint_supervision(
                    {name: value[: 2 * count] for name, value in found.items()},
                    torch.cat([batch.source_kp, batch.driving_kp]),
                    spread,
                    weights,
                )
                plain_kp = {name: value[:few] for name, value in driving_kp.items()}
                terms |= losses.equivariance(plain_kp, bent_kp, spline, weights)
        if marked is not None:
            source_kp = marked.put(source_kp, marked.source)
            driving_kp = marked.put(driving_kp, marked.driving)
        return source_kp, driving_kp, terms

"""The most unusual place of an image: the patch farthest from all patches of normal images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

#: Squared distance below which two patches are the same one, as a share of the mean squared length of the
#: bank's.
SAME = 1e-8


@torch.inference_mode()
def most_unusual(
    features: torch.Tensor, bank: npt.NDArray[Any], owner: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return each image's patch that is farthest from the bank, what is nearest to it there, and how far that is.

    Patches of an image that is itself in the bank are not compared with its own.

    Parameters
    ----------
    features : tensor of shape (b, h, w, D)
        Patch features.
    bank : array of shape (N, D)
        Patches of normal images, float32.
    owner : array of shape (N,)
        Which image each came from.

    Returns
    -------
    tuple of arrays of shape (b, D), (b, D) and (b,)
        Patch, nearest of the bank, Euclidean distance.
    """
    known, owners = torch.from_numpy(np.asarray(bank)), torch.from_numpy(np.asarray(owner))
    lengths = known.square().sum(dim=1)
    same = SAME * float(lengths.mean())
    patches, nearest, distances = [], [], []
    for image in features.flatten(1, 2):
        squared = lengths - 2 * image @ known.T + image.square().sum(dim=1, keepdim=True)
        if float(squared.min()) < 1e4 * same:  # cancellation may hide more than that: look at these exactly
            place, element = divmod(int(squared.argmin()), len(known))
            if float((image[place] - known[element]).square().sum()) <= same:
                squared[:, owners == owners[element]] = torch.inf
        best = squared.min(dim=1)
        worst = int(best.values.argmax())
        patch, near = image[worst], known[best.indices[worst]]
        patches.append(patch.numpy())
        nearest.append(near.numpy())
        distances.append(float((patch - near).norm()))
    return np.stack(patches), np.stack(nearest), np.array(distances)

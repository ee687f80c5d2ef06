"""What is logged to see a collapse coming: a loss alone does not show one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import distributed


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    """Standard deviation over the batch of l2-normalised rows z [N, D], the mean over D; a scalar.

    1 / sqrt(D) for directions spread evenly, 0 where all rows have collapsed into one (SimSiam, Figure 2).
    """
    return F.normalize(distributed.gather(z.detach().float()), dim=1).std(0, correction=0).mean()

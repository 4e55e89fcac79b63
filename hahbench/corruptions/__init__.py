"""The corruptions of CIFAR-10-C, made on the spot (Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261).

Each is a function of uint8 images, a severity and a random generator, and can be used alone::

    import numpy as np
    from hahbench.corruptions import CORRUPTIONS

    foggy = CORRUPTIONS["fog"](images, 3, np.random.RandomState(0))

The constants are those of CIFAR-10-C, which differ from those of ImageNet-C in every corruption. What is made here is
not the published data set but "CIFAR-10-C (regenerated)": its random draws are others, and ``frost``, which needs
photographs, has a stand-in of its own name, ``frost_procedural``.
"""

from __future__ import annotations

from hahbench.corruptions.base import SEVERITIES, Corruption, Generator, Images
from hahbench.registry import Registry

__all__ = ["BENCHMARK", "CORRUPTIONS", "OFFICIAL", "PAPER", "SEVERITIES", "Corruption", "Generator", "Images"]

BENCHMARK = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions that RobustBench averages over."""

OFFICIAL = (*BENCHMARK, "speckle_noise", "gaussian_blur", "spatter", "saturate")
"""All 19 of CIFAR-10-C."""

PAPER = (
    "gaussian_noise",
    "shot_noise",
    "speckle_noise",
    "impulse_noise",
    "snow",
    "fog",
    "frost",
    "brightness",
    "defocus_blur",
    "gaussian_blur",
    "motion_blur",
    "zoom_blur",
    "contrast",
    "elastic_transform",
    "pixelate",
    "spatter",
)
"""The 16 of table 2 of Cekic, Bakiskan and Madhow 2022, in its order."""

CORRUPTIONS: Registry[Corruption] = Registry("corruption")
for _module, _names in {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "gaussian_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost_procedural", "fog"),
    "elastic": ("elastic_transform",),
    "spatter": ("spatter",),
    "digital": ("brightness", "contrast", "saturate", "pixelate", "jpeg_compression"),
}.items():
    for _name in _names:
        CORRUPTIONS.register(_name, f"hahbench.corruptions.{_module}:{_name}")

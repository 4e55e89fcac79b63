"""The judge, against honest attacks and lying ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.outcome import OUTCOME_COLUMNS, Candidates, Samples
from hahbench.spec import NORMS, Norm

SHAPE = (3, 4, 4)


class Brightness(nn.Module):
    """Class 1 where the mean exceeds 0.5, else class 0."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-mean, mean], dim=1)


def dark(n: int = 1, value: float = 0.4, label: int = 0) -> Samples:
    return Samples(torch.arange(10, 10 + n), torch.full((n, *SHAPE), value), torch.full((n,), label))


def judged(
    samples: Samples,
    images: Tensor,
    norm: Norm | None = None,
    epsilon: float | None = None,
    worst_case: bool = True,
    model: nn.Module | None = None,
) -> pd.DataFrame:
    n = len(samples)
    told = torch.full((n,), 7)
    candidates = Candidates(images, told, 2 * told, [f"member {row}" for row in range(n)], told + 1)
    return judge(
        model or Brightness(), samples, candidates, norm=norm, epsilon=epsilon, worst_case=worst_case, seconds=6.0
    )


def test_the_table_has_the_columns_of_an_outcome() -> None:
    outcomes = judged(dark(3), dark(3, 0.6).images)
    assert {name: str(dtype) for name, dtype in outcomes.dtypes.items()} == {**OUTCOME_COLUMNS, "member": "str"}
    assert outcomes["index"].tolist() == [10, 11, 12]
    assert outcomes["forwards"].tolist() == [7, 7, 7]
    assert outcomes["backwards"].tolist() == [14, 14, 14]
    assert outcomes["member"].tolist() == ["member 0", "member 1", "member 2"]
    assert outcomes["step"].tolist() == [8, 8, 8]
    assert outcomes["seconds"].tolist() == [2, 2, 2]


def test_norms_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    clean = rng.uniform(0.1, 0.4, (600, *SHAPE)).astype(np.float32)
    adversarial = rng.uniform(0.6, 0.9, clean.shape).astype(np.float32)
    adversarial[:, 0, :2] = clean[:, 0, :2]
    samples = Samples(torch.arange(600), torch.from_numpy(clean), torch.zeros(600, dtype=torch.int64))
    outcomes = judged(samples, torch.from_numpy(adversarial))
    delta = (adversarial.astype(np.float64) - clean).reshape(600, -1)
    for norm, order in zip(NORMS, (0, 1, 2, np.inf), strict=True):
        np.testing.assert_allclose(outcomes[norm], np.linalg.norm(delta, ord=order, axis=1), rtol=1e-12)
    assert (outcomes["l0"] == 40).all()


def test_broken_unbroken_and_already_wrong() -> None:
    samples = Samples(torch.arange(3), torch.full((3, *SHAPE), 0.4), torch.tensor([0, 0, 1]))
    images = torch.stack([torch.full(SHAPE, value) for value in (0.6, 0.45, 0.6)])
    outcomes = judged(samples, images)
    assert outcomes["clean_pred"].tolist() == [0, 0, 0]
    assert outcomes["adv_pred"].tolist() == [1, 0, 0]
    assert outcomes["linf"].tolist() == [pytest.approx(0.2), np.inf, 0]


def test_a_random_corruption_may_put_a_wrong_sample_right() -> None:
    samples = Samples(torch.arange(3), torch.full((3, *SHAPE), 0.4), torch.tensor([0, 0, 1]))
    images = torch.stack([torch.full(SHAPE, value) for value in (0.6, 0.45, 0.6)])
    outcomes = judged(samples, images, worst_case=False)
    assert outcomes["adv_pred"].tolist() == [1, 0, 1]
    assert outcomes["linf"].tolist() == [pytest.approx(0.2), np.inf, 0]


@pytest.mark.parametrize("worst_case", [True, False])
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(torch.full((1, *SHAPE), 0.4), id="unchanged"),
        pytest.param(torch.full((1, *SHAPE), torch.nan), id="nan"),
        pytest.param(torch.full((1, *SHAPE), 0.6).index_fill(3, torch.tensor([0]), torch.nan), id="some nan"),
        pytest.param(torch.full((1, *SHAPE), 0.6), id="over budget"),
        pytest.param(torch.full((1, *SHAPE), -torch.inf), id="infinite"),
    ],
)
def test_lies_are_no_success(lie: Tensor, worst_case: bool) -> None:
    outcomes = judged(dark(), lie, "linf", 0.15, worst_case)
    assert outcomes["adv_pred"].tolist() == [0]
    assert (outcomes[list(NORMS)] == np.inf).all(axis=None)


@pytest.mark.parametrize("worst_case", [True, False])
@pytest.mark.parametrize("value", [0.6, torch.nan], ids=["over budget", "nan"])
def test_a_rejected_candidate_gains_nothing_from_a_model_whose_output_is_random(value: float, worst_case: bool) -> None:
    class Coin(nn.Module):
        generator = torch.Generator().manual_seed(0)

        def forward(self, images: Tensor) -> Tensor:
            return torch.rand((len(images), 2), generator=self.generator)

    outcomes = judged(dark(300), dark(300, value).images, "linf", 0.15, worst_case, Coin())
    assert 100 < (outcomes["clean_pred"] == 0).sum() < 200
    assert (outcomes["adv_pred"] == outcomes["clean_pred"]).all()
    for norm in NORMS:
        assert (outcomes[norm] == np.where(outcomes["clean_pred"] == 0, np.inf, 0.0)).all()


def test_logits_that_are_nan_are_no_class() -> None:
    class Breaks(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).where(images.mean() < 0.5, torch.nan)

    outcomes = judged(dark(), torch.full((1, *SHAPE), 0.6), model=Breaks())
    assert outcomes["adv_pred"].tolist() == [-1]
    assert outcomes["linf"].tolist() == [pytest.approx(0.2)]


def test_a_candidate_is_clipped_to_the_box_before_it_is_predicted_and_measured() -> None:
    images = torch.zeros((1, *SHAPE))
    images[0, 0, 0, 0] = 100.0
    samples = Samples(torch.arange(1), torch.zeros((1, *SHAPE)), torch.tensor([0]))
    assert judged(samples, images)["adv_pred"].tolist() == [0]
    outcomes = judged(dark(), torch.full((1, *SHAPE), 5.0), "linf", 0.6)
    assert outcomes["adv_pred"].tolist() == [1]
    assert outcomes["linf"].tolist() == [pytest.approx(0.6)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_candidates_of_another_type_are_taken_as_float32(dtype: torch.dtype) -> None:
    class OnlyFloat32(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            assert images.dtype == torch.float32
            return super().forward(images)

    outcomes = judged(dark(), torch.full((1, *SHAPE), 0.6, dtype=dtype), model=OnlyFloat32())
    assert outcomes["adv_pred"].tolist() == [1]
    assert outcomes["linf"].tolist() == [pytest.approx(0.2, abs=1e-3)]


@given(excess=st.floats(0, 1), norm=st.sampled_from(NORMS))
def test_only_round_off_is_let_through(excess: float, norm: Norm) -> None:
    samples, images = dark(), dark(value=0.6).images
    size = {"l0": 48.0, "l1": 48 * 0.2, "l2": 48**0.5 * 0.2, "linf": 0.2}[norm]
    round_off = {"l0": 0.0, "l1": 48.0, "l2": 48**0.5, "linf": 1.0}[norm] * 1.2e-7
    assert judged(samples, images, norm, size / (1 + 1e-5 * excess))["adv_pred"].item() == 1
    assert judged(samples, images, norm, size * (1 - 2e-5) - 2 * round_off - excess * size / 2)["adv_pred"].item() == 0


def test_an_attack_that_leaves_the_model_in_training_mode_gains_nothing() -> None:
    class RightInEvaluation(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, 1.0]] if self.training else [[1.0, 0.0]]).expand(len(images), 2)

    assert judged(dark(), dark().images, model=RightInEvaluation().train())["adv_pred"].tolist() == [0]


def test_autocast_around_the_judge_changes_nothing() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
    samples = dark(500)
    images = torch.rand((500, *SHAPE), generator=torch.Generator().manual_seed(0))
    outcomes = judged(samples, images, model=model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pd.testing.assert_frame_equal(judged(samples, images, model=model), outcomes)


def tf32_precisions() -> list[object]:
    """What the multiplications in convolutions and in matrix products are rounded to."""
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        owners = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul)
        return [owner.fp32_precision for owner in owners]
    return [backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32]


@pytest.mark.parametrize("older_switch", [None, "high", "highest"])
def test_tf32_is_off_while_a_prediction_is_made_and_as_it_was_after(older_switch: str | None) -> None:
    seen: list[object] = []

    class Asks(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            seen.extend(tf32_precisions())
            # Both raise where older and newer switches contradict each other; cuBLAS asks the first.
            torch._C._get_cublas_allow_tf32()
            with torch.backends.cudnn.flags(enabled=False):
                return super().forward(images)

    usual = torch.get_float32_matmul_precision()
    try:
        if older_switch is not None:
            torch.set_float32_matmul_precision(older_switch)
        before = tf32_precisions()
        judged(dark(), dark().images, model=Asks())
        assert tf32_precisions() == before
        assert torch.get_float32_matmul_precision() == (older_switch or usual)
    finally:
        torch.set_float32_matmul_precision(usual)
    assert before[0] in ("tf32", True)
    assert set(seen) <= {"ieee", False}
    assert len(seen) == 2 * len(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_convolution_on_cuda_is_one_in_float32() -> None:
    class Mean(nn.Module):
        """Class 1 where the mean of 256 colour values exceeds 1/2 by an eighth of the spacing of TF32."""

        def forward(self, images: Tensor) -> Tensor:
            weight = torch.full((64, 64, 2, 2), 2.0**-8, device=images.device)
            mean = nn.functional.conv2d(images, weight)[:, 0, 0, 0]
            return torch.stack([torch.full_like(mean, 0.5 + 2.0**-14), mean], dim=1)

    images = torch.full((8, 64, 8, 8), 0.5)
    samples = Samples(torch.arange(8), images, torch.zeros(8, dtype=torch.int64)).to("cuda")
    candidates = Candidates.untold(samples.images + 2.0**-13)
    outcomes = judge(Mean().eval(), samples, candidates, norm=None, epsilon=None, worst_case=True, seconds=0.0)
    assert outcomes["adv_pred"].tolist() == [1] * 8


def test_another_shape_is_refused() -> None:
    with pytest.raises(
        HahbenchError, match=r"returned images \(1, 3, 4, 4\) and tells of \[2\] samples for images \(2, 3"
    ):
        judged(dark(2), dark(1).images)

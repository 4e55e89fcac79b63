"""Recording what flows through chosen layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hahbench.errors import ModelError


class ActivationExtractor:
    """Records the inputs and outputs of layers in the forward passes made inside a ``with`` block.

    The records hold the last pass, gradient graph included, and stay readable after the block.

    Args:
        model: the network that contains the layers.
        layers: the layers to record, by the names to record them under.

    Attributes:
        inputs: each layer's first argument.
        outputs: each layer's output.

    Raises:
        ModelError: a layer is not part of the model.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        members = set(model.modules())
        strangers = [name for name, layer in layers.items() if layer not in members]
        if strangers:
            raise ModelError(f"layer {strangers[0]!r} is not part of the model; allowed: the model's own modules")
        self.layers = dict(layers)
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> ActivationExtractor:
        for name, layer in self.layers.items():
            self._handles.append(layer.register_forward_hook(self._recorder(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _recorder(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            self.inputs[name] = args[0]
            self.outputs[name] = output

        return record

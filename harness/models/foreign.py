"""Any network of timm by name, its weights drawn anew: nothing is ever fetched.

timm's layers know nothing of law 8, so some are replaced before a network is used, and networks with layers that
cannot be replaced are refused. Batch norm becomes ours, with the momentum and eps of the run (so a ``tf_`` network has
not TensorFlow's), whatever the number of groups: torch's would count a batch twice where passes recompute it. Drop path
becomes ours. Dropout is refused: timm hands its rate to fused kernels and to functions, where no layer of ours would be
asked, and drops entries of tables that belong to no image.

timm is imported when one of its networks is first named: it takes a second, and brings torch's compiler with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.config.errors import SpecError, nearest
from harness.config.registry import Examples, encoder
from harness.models.encoder import Encoder, refused
from harness.models.norm import BatchNorm, Norm
from harness.models.stochastic import DropPath

FETCHES = "nothing is fetched: every network starts from the run's seed"
OURS = {
    **dict.fromkeys(
        ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"), FETCHES
    ),
    "num_classes": "an encoder has no classes",
    "features_only": "maps() are part of every encoder that has them",
    "in_chans": "the images say it",
    "img_size": "the data set says it",
    **dict.fromkeys(("bn_momentum", "bn_eps"), "norm.momentum and norm.eps of the run say it"),
    **dict.fromkeys(("device", "dtype", "scriptable", "exportable", "no_jit"), "the place of a run says it"),
}
"""Arguments that are not the experiment's to give, and why."""


@encoder("timm")
@dataclass(frozen=True, kw_only=True)
class Timm:
    """A network of timm. ``arguments`` go to its constructor (``drop_path_rate: 0.1``, ``global_pool: max``).

    h is what it gives without classes, which may be wider than its maps. Networks whose size is fixed are built for the
    size of the images (and take no other, unless an argument such as ``dynamic_img_size`` lets them).
    """

    tiny: ClassVar[Examples] = ({"name": "test_vit"}, {"name": "test_resnet"}, {"arguments": {"drop_path_rate": 0.5}})
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import timm

        if not timm.is_model(self.name) or "." in self.name:
            weights = f"; a name without weights, for {FETCHES}" if {".", ":"} & set(self.name) else ""
            raise ValueError(f"unknown timm model {self.name!r}{weights}: {nearest(self.name, timm.list_models())}")
        for argument, reason in OURS.items():
            if argument in self.arguments:
                raise ValueError(f"{argument} is no argument here: {reason}")

    def build(self, norm: Norm, image_size: int = 32, channels: int = 3) -> ForeignNetwork:
        """A freshly initialised network (torch's global generator), in timm's own way.

        Raises :class:`SpecError` where timm refuses the arguments or the size, or has layers that break law 8.
        """
        form = _form(self.name, json.dumps(self.arguments), image_size, channels)
        network = created(self.name, self.arguments, image_size, channels)
        return ForeignNetwork(adopted(network, norm, self.name), form, self.name)


@dataclass(frozen=True)
class Form:
    """What a network gives: width of h, and what it holds before pooling."""

    out_dim: int
    before_pooling: Literal["NCHW", "NHWC", "NLC", "other"]
    class_tokens: int


class ForeignNetwork(Encoder):
    """A network of timm, which keeps its parameters' names behind ``network.``."""

    def __init__(self, network: nn.Module, form: Form, name: str) -> None:
        super().__init__()
        self.network, self.form, self.name = network, form, name
        self.out_dim, self.class_tokens = form.out_dim, form.class_tokens

    def forward(self, images: Tensor) -> Tensor:
        """h [N, ``out_dim``]."""
        return cast(Tensor, self.network(images))

    def tokens(self, images: Tensor, keep: Tensor | None = None, masked: Tensor | None = None) -> Tensor:
        """Every token of the network; none can be left out or masked."""
        if self.form.before_pooling != "NLC":
            return super().tokens(images)
        if keep is not None or masked is not None:
            raise refused(f"{self._called()} leaves out and masks no patches; encoder: vit does")
        return cast(Tensor, self._features(images))

    def maps(self, images: Tensor) -> Tensor:
        """The network's last maps; their channels may be fewer than ``out_dim``, which some widen after pooling."""
        if self.form.before_pooling == "NHWC":
            return cast(Tensor, self._features(images)).permute(0, 3, 1, 2)
        if self.form.before_pooling == "NCHW":
            return cast(Tensor, self._features(images))
        return super().maps(images)

    def _features(self, images: Tensor) -> Any:
        return cast(Any, self.network).forward_features(images)

    @property
    def depth(self) -> int:  # type: ignore[override]
        """As timm groups the layers of this network for layer-wise decay."""
        return self._depths[1]

    def depth_of(self, name: str) -> int:
        """timm counts a norm behind the last block to that block."""
        return self._depths[0][name.removeprefix("network.")]

    @cached_property
    def _depths(self) -> tuple[Mapping[str, int], int]:
        from timm.models._manipulate import group_with_matcher

        if not hasattr(self.network, "group_matcher"):
            raise refused(f"{self._called()} does not say how deep its layers lie: it has no group_matcher")
        head = "\0"  # matches nothing, as what follows the encoder
        named = [*((name, None) for name, _ in self.network.named_parameters()), (head, None)]
        depths = group_with_matcher(iter(named), cast(Any, self.network).group_matcher(), reverse=True)
        return depths, depths[head] - 1

    def _called(self) -> str:
        return f"timm's {self.name}"


def created(name: str, arguments: Mapping[str, Any], image_size: int, channels: int) -> nn.Module:
    """As timm makes it, without classes. Raises :class:`SpecError` with what timm says against it."""
    import timm
    from timm.models import get_pretrained_cfg

    usual = get_pretrained_cfg(name)
    size = {"img_size": image_size} if usual is not None and usual.fixed_input_size else {}
    try:
        network = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=channels, **size, **_lists_as_tuples(arguments)
        )
    except Exception as error:  # each of a thousand constructors has a way of its own to refuse
        raise _refusal(name, error) from error
    return network  # type: ignore[no-any-return]


def adopted(network: nn.Module, norm: Norm, name: str) -> nn.Module:
    """Replace batch norm and drop path by ours, in place. Raises :class:`SpecError` for what cannot be."""
    _replace_drop_paths(network)
    _replace_batch_norms(network, norm)
    for place, layer in network.named_modules():
        held = {buffer for buffer, _ in layer.named_buffers(recurse=False)}
        if not isinstance(layer, BatchNorm) and held & {"running_mean", "running_var"}:
            raise refused(
                f"timm's {name} has layers that normalise batches in their own way ({type(layer).__name__} at "
                f"{place}) and could not follow norm.groups; take another norm_layer among its arguments"
            )
    return network


class BatchNormAct(BatchNorm):
    """Our batch norm where timm has one with an activation (and a layer that drops, mostly none) inside it."""

    def __init__(self, channels: int, norm: Norm, drop: nn.Module, act: nn.Module) -> None:
        super().__init__(channels, norm)
        self.drop, self.act = drop, act

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`BatchNorm.forward`, then dropped and activated."""
        return cast(Tensor, self.act(self.drop(super().forward(x))))

    def ordinary(self) -> nn.Module:
        """As :meth:`BatchNorm.ordinary`, still activated."""
        return nn.Sequential(super().ordinary(), self.drop, self.act)


def _replace_batch_norms(network: nn.Module, norm: Norm) -> None:
    from timm.layers import BatchNormAct2d

    made: dict[nn.Module, BatchNorm] = {}
    for place, layer in list(network.named_modules(remove_duplicate=False)):
        if type(layer) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d):
            continue
        theirs = cast(nn.BatchNorm2d, layer)
        if theirs.weight is None or theirs.bias is None or theirs.running_mean is None or theirs.running_var is None:
            continue
        if layer not in made:
            fused = {"drop": layer.drop, "act": layer.act} if isinstance(layer, BatchNormAct2d) else None
            ours = BatchNormAct(len(theirs.weight), norm, **fused) if fused else norm.build(len(theirs.weight))
            ours.weight, ours.bias = theirs.weight, theirs.bias
            ours.running_mean, ours.running_var = theirs.running_mean, theirs.running_var
            made[layer] = ours
        network.set_submodule(place, made[layer])


def _replace_drop_paths(network: nn.Module) -> None:
    from timm.layers import DropPath as Theirs

    made: dict[nn.Module, DropPath] = {}
    for place, layer in list(network.named_modules(remove_duplicate=False)):
        if isinstance(layer, Theirs):
            if layer not in made:
                made[layer] = DropPath(layer.drop_prob or 0.0, len(made), scale=layer.scale_by_keep)
            network.set_submodule(place, made[layer])


@lru_cache(maxsize=512)
def _form(name: str, arguments: str, image_size: int, channels: int) -> Form:
    """Two images through a network without values: in training to see what it draws, then for its shapes.

    timm's ``num_features`` is the width of the maps, and not that of h in a quarter of its families. The generator is
    put back: only the first of equal networks is looked at, and must start from the same values as the next.
    """
    images = torch.empty(2, channels, image_size, image_size, device="meta")
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        network = created(name, json.loads(arguments), image_size, channels)
        _replace_drop_paths(network)
        for layer in network.train().modules():
            if isinstance(layer, DropPath):
                layer.eval()
        try:
            with _NoDraws(name, network):
                network(images)  # with timm's batch norm: ours would wait for other processes here
            network = adopted(network, Norm(), name).eval()
            h, features = network(images), cast(Any, network).forward_features(images)
        except SpecError:
            raise
        except Exception as error:  # as above
            raise _refusal(name, error) from error
    if not isinstance(h, Tensor) or h.dim() != 2:
        found = list(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise refused(f"timm's {name} gives no vector for an image (two gave {found}); let it pool")
    first: int | None = getattr(network, "num_prefix_tokens", None)
    held: Literal["NCHW", "NHWC", "NLC", "other"] = "other"
    if isinstance(features, Tensor) and features.dim() == 4:
        held = "NHWC" if getattr(network, "output_fmt", "NCHW") == "NHWC" else "NCHW"
    elif isinstance(features, Tensor) and features.dim() == 3 and first is not None:
        held = "NLC"  # a network that does not say how many of its tokens are no patches may have such
    return Form(out_dim=h.shape[1], before_pooling=held, class_tokens=(first or 0) if held == "NLC" else 0)


class _NoDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, what draws from torch's generators raises :class:`SpecError`."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name = name
        self.rates = [
            f"{type(layer).__name__} {layer.p:g} at {place}"
            for place, layer in network.named_modules()
            if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            given = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | kwargs
            if given.get("dropout_p", given.get("dropout")) != 0:
                layers = f" ({self.rates[0]})" if self.rates else ""
                raise refused(
                    f"timm's {self.name} draws random numbers of its own in training{layers}, which would "
                    "depend on the batch and the device; set its rates of dropout to 0 among the arguments (drop_rate, "
                    "proj_drop_rate, attn_drop_rate, ...; drop_path_rate draws from the run's streams and may stay)"
                )
        return func(*args, **kwargs)


def _refusal(name: str, error: Exception) -> SpecError:
    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return refused(f"timm's {name} cannot be built for these arguments and images: {said}")


def _lists_as_tuples(value: Any) -> Any:
    """YAML has lists only; some constructors tell them from tuples."""
    if isinstance(value, Mapping):
        return {key: _lists_as_tuples(one) for key, one in value.items()}
    return tuple(map(_lists_as_tuples, value)) if isinstance(value, list) else value

"""YOLOX-nano (Ge, Liu, Wang, Li, Sun 2021): a detector of 0.9 million parameters for the 80 classes of COCO.

The network with batch normalisation folded into the convolutions, its parameters named as Megvii's code names them, so
that files of theirs load (batch normalisation is folded while reading). 416 x 416 pixels in the order B, G, R, 0 to 255
without scaling; out come 3,549 candidates of (x, y, log w, log h, objectness, 80 class scores), the scores after the
sigmoid. Strides 8, 16, 32, cells row by row: centre = (xy + cell) * stride, size = exp(wh) * stride.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, STRIDES = 416, (8, 16, 32)
WIDTHS = (16, 32, 64, 128, 256)  # stem and the four stages: the full YOLOX's, times 0.25
HEAD_WIDTH = 64
BATCH_NORM_EPSILON = 1e-3  # YOLOX's, not torch's default
COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
    "skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, "
    "sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining "
    "table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, "
    "refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
)
CLASSES = tuple(COCO.split(", "))


class Conv(nn.Module):
    """A convolution that keeps the size (but for its stride), and SiLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.conv(x))


class Separable(nn.Module):
    """3 x 3 in each channel, then 1 x 1 across them."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.dconv = Conv(inputs, inputs, 3, stride=stride, groups=inputs)
        self.pconv = Conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class Bottleneck(nn.Module):
    """1 x 1 and a separable 3 x 3, added to the input where `shortcut` is set."""

    def __init__(self, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.shortcut = Conv(width, width), Separable(width, width), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CrossStage(nn.Module):
    """Half of the channels through bottlenecks, the other half past them (cross stage partial)."""

    def __init__(self, inputs: int, outputs: int, *, depth: int = 1, shortcut: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1, self.conv2, self.conv3 = Conv(inputs, half), Conv(inputs, half), Conv(outputs, outputs)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut=shortcut) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class Pyramid(nn.Module):
    """Maxima over windows of 5, 9 and 13 cells beside the map itself (spatial pyramid pooling)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width // 2), Conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13))], 1))


class Focus(nn.Module):
    """Every second pixel of every second row, four ways, as channels; then a convolution."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(12, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(parts, 1))


class Darknet(nn.Module):
    """The backbone; its maps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        stem, two, three, four, five = WIDTHS
        self.stem = Focus(stem)
        self.dark2 = nn.Sequential(Separable(stem, two, stride=2), CrossStage(two, two, shortcut=True))
        self.dark3 = nn.Sequential(Separable(two, three, stride=2), CrossStage(three, three, depth=3, shortcut=True))
        self.dark4 = nn.Sequential(Separable(three, four, stride=2), CrossStage(four, four, depth=3, shortcut=True))
        self.dark5 = nn.Sequential(Separable(four, five, stride=2), Pyramid(five), CrossStage(five, five))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        three = self.dark3(self.dark2(self.stem(x)))
        four = self.dark4(three)
        return three, four, self.dark5(four)


class Neck(nn.Module):
    """The backbone and a way down to stride 8 and up again (path aggregation)."""

    def __init__(self) -> None:
        super().__init__()
        _, _, three, four, five = WIDTHS
        self.backbone = Darknet()
        self.lateral_conv0, self.C3_p4 = Conv(five, four), CrossStage(2 * four, four)
        self.reduce_conv1, self.C3_p3 = Conv(four, three), CrossStage(2 * three, three)
        self.bu_conv2, self.C3_n3 = Separable(three, three, stride=2), CrossStage(2 * three, four)
        self.bu_conv1, self.C3_n4 = Separable(four, four, stride=2), CrossStage(2 * four, five)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        three, four, five = self.backbone(x)
        top = self.lateral_conv0(five)
        middle = self.reduce_conv1(self.C3_p4(torch.cat([functional.interpolate(top, scale_factor=2.0), four], 1)))
        fine = self.C3_p3(torch.cat([functional.interpolate(middle, scale_factor=2.0), three], 1))
        medium = self.C3_n3(torch.cat([self.bu_conv2(fine), middle], 1))
        return fine, medium, self.C3_n4(torch.cat([self.bu_conv1(medium), top], 1))


class Head(nn.Module):
    """Per stride and cell: a box, whether there is something, and what."""

    def __init__(self, classes: int) -> None:
        super().__init__()

        def pairs() -> nn.ModuleList:
            layers = [Separable(HEAD_WIDTH, HEAD_WIDTH) for _ in range(2 * len(STRIDES))]
            return nn.ModuleList(nn.Sequential(*two) for two in zip(layers[::2], layers[1::2], strict=True))

        def predictors(outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(HEAD_WIDTH, outputs, 1) for _ in STRIDES)

        self.stems = nn.ModuleList(Conv(width, HEAD_WIDTH) for width in WIDTHS[2:])
        self.cls_convs, self.reg_convs = pairs(), pairs()
        self.cls_preds, self.reg_preds, self.obj_preds = predictors(classes), predictors(4), predictors(1)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        levels = []
        for i, x in enumerate(maps):
            x = self.stems[i](x)
            kind, place = self.cls_convs[i](x), self.reg_convs[i](x)
            scores = torch.cat([self.obj_preds[i](place), self.cls_preds[i](kind)], 1).sigmoid()
            levels.append(torch.cat([self.reg_preds[i](place), scores], 1).flatten(2))
        return torch.cat(levels, 2).transpose(1, 2)


class YoloxNano(nn.Module):
    """(B, 3, 416, 416) float32, B G R, 0 to 255, to (B, 3549, 5 + classes) as the module's docstring says."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.backbone, self.head = Neck(), Head(classes)

    def forward(self, x: Tensor) -> Tensor:
        candidates: Tensor = self.head(self.backbone(x))
        return candidates


def decode(candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (n, 4) as left, top, right, bottom in pixels of the 416 x 416 input, and class scores (n, 80).

    candidates : (n, 5 + classes) of one picture. The score of a class is objectness times class score.
    """
    cells = [
        torch.stack([torch.arange(side).repeat(side), torch.arange(side).repeat_interleave(side)], 1)
        for side in (SIDE // stride for stride in STRIDES)
    ]
    stride = torch.cat([torch.full((len(c), 1), s) for c, s in zip(cells, STRIDES, strict=True)])
    stride, cell = stride.to(candidates), torch.cat(cells).to(candidates)
    centre, size = (candidates[:, :2] + cell) * stride, candidates[:, 2:4].exp() * stride
    return torch.cat([centre - size / 2, centre + size / 2], 1), candidates[:, 4:5] * candidates[:, 5:]


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with batch normalisation folded into the convolutions; files that have none come back as they are."""
    result = {}
    for name, value in state.items():
        module, _, field = name.rpartition(".")
        norm = module.removesuffix(".conv") + ".bn"
        if module.endswith(".bn"):
            continue
        if field == "weight" and f"{norm}.weight" in state:
            gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPSILON).sqrt()
            result[name] = value * gain.view(-1, 1, 1, 1)
            result[f"{module}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
        else:
            result[name] = value
    return result

"""What a published network takes and gives: all that has to be known to wrap it into the interface that is served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Activation = Literal["none", "sigmoid", "min-max"]
ChannelOrder = Literal["RGB", "BGR"]
Layout = Literal["NCHW", "NHWC"]
PerChannel = tuple[float, float, float]
Deviation = Annotated[float, Field(gt=0)]


class Interface(BaseModel):
    """The interface of one network, as its authors' own code uses it.

    Attributes:
        side: of the square that it was trained for, in pixels. Pictures are stretched to it.
        other_sides: whether it takes squares of other sides too.
        side_multiple: what such sides are multiples of.
        layout: of input and output.
        channel_order: of the input.
        mean: subtracted from x / 255, in the input's channel order.
        std: what the difference is divided by, likewise.
        output: which output is the mask: its number, counted from 0, or its name; -1 is the last one.
        activation: what turns that output into alpha. `none`: it is in 0..1. `sigmoid`: it has logits. `min-max`: it is
            stretched to 0..1 where it covers more than half of `output_range`, so that a picture without an object does
            not become a mask of noise.
        output_range: the least and the largest value that the output is made for, for `min-max` alone.
        resizes_follow_maps: give each Resize the size of the map that it is joined with. A U-network whose file fixes
            one side takes all of them then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    side: int = Field(ge=32, le=4096)
    other_sides: bool = False
    side_multiple: int = Field(32, ge=1, le=1024)
    layout: Layout = "NCHW"
    channel_order: ChannelOrder = "RGB"
    mean: PerChannel
    std: tuple[Deviation, Deviation, Deviation]
    output: int | str = 0
    activation: Activation = "none"
    output_range: tuple[float, float] | None = None
    resizes_follow_maps: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Interface:
        if (self.activation == "min-max") != (self.output_range is not None):
            raise ValueError("output_range belongs to the activation min-max, and to no other")
        if self.output_range is not None and self.output_range[0] >= self.output_range[1]:
            raise ValueError("output_range begins with the smaller value")
        if self.side % self.side_multiple:
            raise ValueError(f"side {self.side} is no multiple of {self.side_multiple}")
        if self.resizes_follow_maps and (not self.other_sides or self.layout != "NCHW"):
            raise ValueError("resizes_follow_maps is for networks of layout NCHW, and gives them other_sides")
        return self

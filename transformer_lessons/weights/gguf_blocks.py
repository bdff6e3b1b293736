"""Blocks: how GGUF keeps the numbers of a tensor in fewer bits. Lessons 20 and 21.

A block holds 32 neighbouring numbers of a row as small integers, with a scale that all 32 share:

    F32    1 number     4 bytes    the number
    F16    1 number     2 bytes    the number
    BF16   1 number     2 bytes    the number
    Q8_0  32 numbers   34 bytes    scale (float16), 32 int8 q               x = scale * q
    Q4_0  32 numbers   18 bytes    scale (float16), 16 bytes q              x = scale * (q - 8)
    Q4_1  32 numbers   20 bytes    scale, least (float16), 16 bytes q       x = scale * q + least

The 16 bytes of the 4-bit types hold two numbers each, 0 to 15: the low half of byte j is number j
of the block, the high half is number j + 16. So Q4_1 takes 5 bits a number, and Q8_0 takes 8.5.
Source: ggml's ggml-common.h (block_q8_0, block_q4_0, block_q4_1) and ggml-quants.c.
"""

import torch
from torch import Tensor

from transformer_lessons.errors import LessonsError
from transformer_lessons.support.gguf_file import BLOCK_SIZES, GGUFFile

AT_A_TIME = 1 << 16  # blocks; so that what is only needed on the way stays small


def half_to_float(blocks: Tensor) -> Tensor:
    """Pairs of bytes (..., 2n) as the float16 numbers they are, widened: (..., n) float32.

    >>> half_to_float(torch.tensor([[0x00, 0x3C]], dtype=torch.uint8))  # 0x3C00 is 1.0
    tensor([[1.]])
    """
    return blocks.contiguous().view(torch.float16).float()


def low_then_high(packed: Tensor) -> Tensor:
    """Two numbers from 0 to 15 out of each byte, all low halves first: (..., n) -> (..., 2n).

    >>> low_then_high(torch.tensor([0x21, 0x43], dtype=torch.uint8)).tolist()
    [1, 3, 2, 4]
    """
    return torch.cat([packed & 0x0F, packed >> 4], dim=-1)


def dequantize_f32(blocks: Tensor) -> Tensor:
    """(n, 4) bytes -> (n, 1) float32, as they are."""
    return blocks.contiguous().view(torch.float32)


def dequantize_bf16(blocks: Tensor) -> Tensor:
    """(n, 2) bytes -> (n, 1) float32: bfloat16 is the upper half of a float32."""
    return blocks.contiguous().view(torch.bfloat16).float()


def dequantize_q8_0(blocks: Tensor) -> Tensor:
    """(n, 34) bytes -> (n, 32) float32: scale * q, with q from -128 to 127.

    >>> block = torch.tensor([[0x00, 0x38, 2, 255] + 30 * [0]], dtype=torch.uint8)  # scale 0.5
    >>> dequantize_q8_0(block)[0, :3].tolist()
    [1.0, -0.5, 0.0]
    """
    scale, q = half_to_float(blocks[:, :2]), blocks[:, 2:].view(torch.int8)
    return scale * q


def dequantize_q4_0(blocks: Tensor) -> Tensor:
    """(n, 18) bytes -> (n, 32) float32: scale * (q - 8), with q from 0 to 15.

    >>> block = torch.tensor([[0x00, 0x38] + 16 * [0x9F]], dtype=torch.uint8)  # scale 0.5
    >>> dequantize_q4_0(block)[0, [0, 31]].tolist()
    [3.5, 0.5]
    """
    scale, q = half_to_float(blocks[:, :2]), low_then_high(blocks[:, 2:])
    return scale * (q.float() - 8)


def dequantize_q4_1(blocks: Tensor) -> Tensor:
    """(n, 20) bytes -> (n, 32) float32: scale * q + least, with q from 0 to 15.

    >>> block = torch.tensor([[0x00, 0x38, 0x00, 0x3C] + 16 * [0x9F]], dtype=torch.uint8)
    >>> dequantize_q4_1(block)[0, [0, 31]].tolist()  # scale 0.5, least 1.0
    [8.5, 5.5]
    """
    scale, least = half_to_float(blocks[:, :2]), half_to_float(blocks[:, 2:4])
    return scale * low_then_high(blocks[:, 4:]) + least


DEQUANTIZE = {
    "F32": dequantize_f32,
    "F16": half_to_float,
    "BF16": dequantize_bf16,
    "Q8_0": dequantize_q8_0,
    "Q4_0": dequantize_q4_0,
    "Q4_1": dequantize_q4_1,
}


def dequantize(blocks: Tensor, kind: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers of `blocks` (n, bytes of a block), one after the other: (n * numbers,).

    They are computed in float32 and then rounded to `dtype`, some blocks at a time.

    >>> dequantize(torch.tensor([[0x80, 0x3F]], dtype=torch.uint8), "BF16")
    tensor([1.])
    """
    n_values, _ = BLOCK_SIZES[kind]
    numbers = torch.empty(len(blocks), n_values, dtype=dtype)
    for start in range(0, len(blocks), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        numbers[part] = DEQUANTIZE[kind](blocks[part])
    return numbers.flatten()


def gguf_tensor(file: GGUFFile, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers of the tensor `name` of a GGUF file, in its shape."""
    blocks, tensor = file.blocks(name), file.tensors[name]
    return dequantize(blocks, tensor.type, dtype).view(tensor.shape)


def two_a_byte(q: Tensor) -> Tensor:
    """The inverse of `low_then_high`: uint8 numbers from 0 to 15, (..., 2n) -> (..., n).

    >>> two_a_byte(torch.tensor([1, 3, 2, 4], dtype=torch.uint8)).tolist() == [0x21, 0x43]
    True
    """
    low, high = q.chunk(2, dim=-1)
    return low | high << 4


def quantize_q8_0(numbers: Tensor) -> Tensor:
    """(..., D) -> (n, 34) bytes: scale = max |x| / 127, q = x / scale, halves away from 0.

    q is found with the float32 scale, of which the block keeps a float16. `LessonsError` where D is
    not a multiple of 32, and for numbers that are not finite or too large for float16.

    >>> quantize_q8_0(torch.arange(32.0) * 4.096875)[0, :6].tolist()  # the scale is 1.0
    [0, 60, 0, 4, 8, 12]
    """
    x = _in_groups(numbers)
    scale = x.abs().amax(dim=1, keepdim=True) / 127
    q = x * _inverse(scale)
    q = q.trunc() + (2 * q.frac()).trunc()  # torch.round would send halves to the even number
    return torch.cat([_half_bytes(scale), q.to(torch.int8).view(torch.uint8)], dim=1)


def quantize_q4_0(numbers: Tensor) -> Tensor:
    """(..., D) -> (n, 18) bytes: the x furthest from 0 becomes q = 0. Raises as the others.

    >>> quantize_q4_0(torch.arange(32.0) * 8 / 31)[0, [0, 1, 2, 17]].tolist()  # the scale is -1.0
    [0, 188, 72, 4]
    """
    x = _in_groups(numbers)
    scale = x.gather(1, x.abs().argmax(dim=1, keepdim=True)) / -8
    q = (x * _inverse(scale) + 8.5).to(torch.uint8).clamp(max=15)
    return torch.cat([_half_bytes(scale), two_a_byte(q)], dim=1)


def quantize_q4_1(numbers: Tensor) -> Tensor:
    """(..., D) -> (n, 20) bytes: the least becomes q = 0, the greatest 15. Raises as the others.

    >>> quantize_q4_1(torch.arange(32.0) * 15 / 31)[0, [0, 1, 2, 3, 4, 19]].tolist()  # scale 1.0
    [0, 60, 0, 0, 128, 247]
    """
    x = _in_groups(numbers)
    least, greatest = x.aminmax(dim=1, keepdim=True)
    scale = (greatest - least) / 15
    q = ((x - least) * _inverse(scale) + 0.5).to(torch.uint8).clamp(max=15)
    return torch.cat([_half_bytes(scale), _half_bytes(least), two_a_byte(q)], dim=1)


def _in_groups(numbers: Tensor) -> Tensor:
    if numbers.ndim == 0 or numbers.shape[-1] % 32:
        raise LessonsError(f"rows of {tuple(numbers.shape)} are not made of groups of 32")
    if not numbers.isfinite().all():
        raise LessonsError("a weight is not a finite number")
    return numbers.reshape(-1, 32).float()


def _inverse(scale: Tensor) -> Tensor:
    return (1 / scale).nan_to_num(posinf=0.0, neginf=0.0)  # a group of zeros stays 0


def _half_bytes(x: Tensor) -> Tensor:
    half = x.half()
    if not half.isfinite().all():
        raise LessonsError("the weights are too large: the scale of a group must fit in float16")
    return half.view(torch.uint8)

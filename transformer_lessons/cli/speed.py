"""How a command runs its model: compiled or not, with weights as they are or rounded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from transformer_lessons.errors import LessonsError
from transformer_lessons.generation.decoding import Step, compiled_step, last_logits
from transformer_lessons.model.decoder import Decoder
from transformer_lessons.model.linear import SmallBatchLinear, replace_linear


@dataclass(frozen=True)
class SpeedOptions:
    """What makes a model faster, as arguments: what commands inherit."""

    compile: bool = False
    """Compile the model: it takes a minute or two, once for each length of text, and is kept."""
    int8: bool = False
    """Round the weights to 8 bits. With --compile, one text is faster; without, it is slower."""


def prepare_step(model: Decoder, options: SpeedOptions) -> Step:
    """The step with which to write; the linear layers of `model` are replaced."""
    if options.int8:
        from transformer_lessons.weights.quantize import Int8Linear

        replace_linear(model, Int8Linear)
    else:
        replace_linear(model, SmallBatchLinear)
    return compiled_step() if options.compile else last_logits


@contextmanager
def named_compiler_errors(options: SpeedOptions) -> Iterator[None]:
    """Inside of this block, a model that can't be compiled raises `LessonsError`."""
    if not options.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # here, because it takes a while

    try:
        yield
    except TorchDynamoException as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = f"the model can't be compiled here: {reason}"
        raise LessonsError(what, remedy="Leave --compile away.") from None

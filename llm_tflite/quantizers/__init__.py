"""The strategies that come with llm_tflite, offered through the same hook as anybody's."""

from __future__ import annotations

from collections.abc import Callable

from llm_tflite.hookspecs import hookimpl
from llm_tflite.quantization import QuantizationStrategy

from .aeq import AeqRecipes
from .float16 import Float16
from .full_integer import FullInteger
from .full_integer_int16 import FullIntegerInt16
from .int4 import Int4
from .int8 import Int8
from .mixed import Mixed
from .none import NoQuantization


@hookimpl
def llm_tflite_register_quantizers(register: Callable[[QuantizationStrategy], None]) -> None:
    """Register the strategies that ``llm-tflite plugins`` lists first."""
    register(NoQuantization())
    register(Float16())
    register(Int8("dynamic_range", activations="dynamic"))
    register(Int8("weight_only_int8", activations="float"))
    register(Int4())
    for block_size in (32, 64, 128):
        register(Int4(f"int4_block{block_size}", block_size))
    register(Int4("int4_channel", block_size=0))
    register(Mixed())
    register(FullInteger())
    register(FullIntegerInt16())
    register(AeqRecipes())

"""For authors of plugins: tiny models, and the claims that a quantization strategy must keep.

In a test of your package, as one line or as one test per claim::

    from llm_tflite.testing import QuantizerConformance, check_quantizer

    def test_my_strategy_conforms():
        check_quantizer(MyStrategy())

    class TestMyStrategy(QuantizerConformance):
        strategy = MyStrategy()

The claims convert tiny models, so ``llm-tflite[convert]`` must be installed; pytest need not be.
"""

from __future__ import annotations

from .conformance import QuantizerConformance, check_quantizer
from .models import tiny_model

__all__ = ["QuantizerConformance", "check_quantizer", "tiny_model"]

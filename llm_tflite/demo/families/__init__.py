"""One small random model for every family of causal language models in KerasHub."""

from .family import Family
from .table import FAMILIES

__all__ = ["FAMILIES", "Family"]

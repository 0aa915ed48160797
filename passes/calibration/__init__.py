"""Weights quantized for what a text makes of their inputs, one layer of the model after the other."""

from .allocation import Choice, allocate
from .calibrate import METHODS, CalibrationMethod, calibrate
from .layers import Tokens, cut_layers, read_parameters, run_layer
from .scoring import score
from .sensitivity import Sensitivity, divergence_with, measure_sensitivities
from .work import WorkFolder

__all__ = [
    "METHODS",
    "CalibrationMethod",
    "Choice",
    "Sensitivity",
    "Tokens",
    "WorkFolder",
    "allocate",
    "calibrate",
    "cut_layers",
    "divergence_with",
    "measure_sensitivities",
    "read_parameters",
    "run_layer",
    "score",
]

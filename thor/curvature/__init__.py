"""The mathematics of curvature, without a word about devices."""
from thor.curvature.inversion import BlockInverter
from thor.curvature.preconditioners import PRECONDITIONERS, Preconditioner
from thor.curvature.settings import CurvatureSettings

__all__ = ["BlockInverter", "CurvatureSettings", "PRECONDITIONERS", "Preconditioner"]

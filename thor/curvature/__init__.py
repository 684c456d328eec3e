"""The mathematics of curvature, without a word about devices."""
from thor.curvature.preconditioners import PRECONDITIONERS, BlockFactor, Preconditioner
from thor.curvature.refresh import Refresh
from thor.curvature.settings import CurvatureSettings

__all__ = ["BlockFactor", "CurvatureSettings", "PRECONDITIONERS", "Preconditioner", "Refresh"]

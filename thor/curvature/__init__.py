"""The mathematics of curvature, without a word about devices."""
from thor.curvature.policies import FrobeniusPolicy, TracePolicy, UpdatePolicy
from thor.curvature.preconditioners import PRECONDITIONERS, BlockFactor, Preconditioner
from thor.curvature.refresh import MeasuredLayer, Refresh
from thor.curvature.settings import CurvatureSettings

__all__ = ["BlockFactor", "CurvatureSettings", "FrobeniusPolicy", "MeasuredLayer", "PRECONDITIONERS", "Preconditioner",
           "Refresh", "TracePolicy", "UpdatePolicy"]

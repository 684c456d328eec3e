"""The mathematics of curvature, without a word about devices."""
from thor.curvature.policies import FrobeniusPolicy, TracePolicy, UpdatePolicy

__all__ = ["FrobeniusPolicy", "TracePolicy", "UpdatePolicy"]

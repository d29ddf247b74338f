"""Device models, one a file, and the mapping that makes each known to every back end and every test."""

from __future__ import annotations

from ..errors import unknown_name
from .base import Model, SeparableModel, TwoStateModel
from .data_driven import DataDriven, DataDriven2021
from .jart_vcm import JARTVCM
from .linear_ion_drift import LinearIonDrift
from .mms import MMS
from .nonlinear_ion_drift import NonlinearIonDrift
from .pku import PKU, PKUGrowing
from .simmons import SimmonsTunnelBarrier
from .stanford import Stanford
from .team import TEAM
from .vteam import VTEAM
from .vteam_asymmetric import AsymmetricVTEAM
from .yakopcic import Yakopcic, YakopcicTwoBranch

MODELS: dict[str, type[Model]] = {
    cls.name: cls
    for cls in (
        LinearIonDrift,
        NonlinearIonDrift,
        TEAM,
        VTEAM,
        AsymmetricVTEAM,
        Yakopcic,
        YakopcicTwoBranch,
        Stanford,
        PKU,
        PKUGrowing,
        DataDriven,
        DataDriven2021,
        MMS,
        SimmonsTunnelBarrier,
        JARTVCM,
    )
}
"""Every model by its name on the command line and in files."""


def model_class(name: str) -> type[Model]:
    """The model class called `name`.

    Raises:
        ParameterError: If there is no such model.
    """
    if name not in MODELS:
        raise unknown_name("model", name, list(MODELS))
    return MODELS[name]


__all__ = [
    "JARTVCM",
    "MMS",
    "MODELS",
    "PKU",
    "TEAM",
    "VTEAM",
    "AsymmetricVTEAM",
    "DataDriven",
    "DataDriven2021",
    "LinearIonDrift",
    "Model",
    "NonlinearIonDrift",
    "PKUGrowing",
    "SeparableModel",
    "SimmonsTunnelBarrier",
    "Stanford",
    "TwoStateModel",
    "Yakopcic",
    "YakopcicTwoBranch",
    "model_class",
]

"""parnet's networks as scikit-learn estimators. Stage: on top of models. Must not know: plans, kernels.

clf = pn.sklearn.ParnetClassifier(hidden_layer_sizes=(100,), random_state=0).fit(x, y)     a network as MLPClassifier's
clf = pn.sklearn.ParnetClassifier(builder, epochs=5, random_state=0).fit(x, y)             whatever `builder()` returns

Needs scikit-learn, which is imported when one of the names is first used: pip install 'parnet[sklearn]'.
"""

from ..errors import require_extra, unknown_attribute

__all__ = ["ParnetClassifier", "ParnetRegressor"]


def __getattr__(name: str):
    if name not in __all__:
        raise unknown_attribute(__name__, name, __all__)
    require_extra("sklearn", "sklearn", f"parnet.sklearn.{name}")
    from . import estimators

    globals()[name] = value = getattr(estimators, name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

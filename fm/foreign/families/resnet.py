"""ResNets of timm, torchvision and torchgeo (SSL4EO, SeCo, DeCUR, SoftCon, Satlas, CLOSP)."""

from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families.spectral import adapter_rules
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised
from fm.models.plain_resnet import STRIDE
from fm.models.spectral_resnet import STRIDE as SPECTRAL_STRIDE

_NAMES = {(2, 2, 2, 2): "18", (3, 4, 6, 3): "50", (3, 8, 36, 3): "152"}
_CLASSIFIER = Rule(r"(?:resnet\.)?(?:fc|classifier|head)\..*", None, "classifier")


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ResNet with a 7x7 stem."""
    rules = (_CLASSIFIER, Rule(r"((?:conv1|bn1|layer[1-4])\..*)", r"resnet.\1"))
    return _plan(reading, found, choice, rules)


def plan_indexed(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan a ResNet whose modules were counted: `nn.Sequential` of torchvision's children.

    2 and 3 are the activation and the pooling, which have no tensors.
    """
    names = {"0": "conv1", "1": "bn1", **{str(3 + i): f"layer{i}" for i in (1, 2, 3, 4)}}
    rules = tuple(Rule(rf"{i}\.(.*)", rf"resnet.{name}.\1") for i, name in names.items())
    return _plan(reading, found, choice, rules)


def _plan(reading: Reading, found: Recognised, choice: Choice, rules: tuple[Rule, ...]) -> Plan:
    numbers = found.numbers
    modality = choice.modality(reading.where, numbers["channels"])
    return Plan(
        f"resnet_{_NAMES.get(numbers['stages'], '50')}",
        {
            "blocks": numbers["stages"],
            "bottleneck": numbers["bottleneck"],
            "planes": numbers["planes"],
        },
        STRIDE * choice.gsd(modality),
        rules,
    )


def plan_spectral(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan SpectralEarth's ResNet: the adapter and the four stages."""
    modality = choice.modality(reading.where)
    return Plan(
        "spectral_resnet_50",
        {"blocks": found.numbers["stages"], "planes": found.numbers["planes"], "norm": "batch"},
        SPECTRAL_STRIDE * choice.gsd(modality),
        (
            *adapter_rules("spectral_adapter"),
            _CLASSIFIER,
            Rule(r"(resnet\.layer[1-4]\..*)", r"\1"),
        ),
    )

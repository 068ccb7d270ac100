import pytest

from tests.probes import standin


@pytest.fixture(scope="session")
def blocks(tmp_path_factory):
    """A scene of 12-px blocks in the layout of Indian Pines."""
    pixels, label = standin.scene(side=36)
    return standin.write_scene(tmp_path_factory.mktemp("scene") / "ds", pixels, label, block=12)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Sentinel-1 and Sentinel-2 L2A pairs with labels, in the layout of BigEarthNet."""
    return standin.write_pairs(tmp_path_factory.mktemp("pairs") / "ds")


@pytest.fixture(scope="session", autouse=True)
def few_random_features():
    """Rows with floors have fewer random features than 512, so that tests stay quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probes.features.random_conv.FEATURES", 32)
        yield

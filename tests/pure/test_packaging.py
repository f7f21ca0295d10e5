"""What is built from setup.cfg is complete."""

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_is_shipped() -> None:
    written = ConfigParser()
    written.read(ROOT / "setup.cfg")
    shipped = set(written["options"]["packages"].split())
    tops = {name.partition(".")[0] for name in shipped}
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for top in tops for path in (ROOT / top).rglob("__init__.py")
    }
    assert shipped == found

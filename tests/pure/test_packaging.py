"""Test that the distribution contains every module and every Lua script."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[2]


def test_every_package_and_every_script_is_shipped() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    shipped = set(find_packages(str(ROOT), include=config["options.packages.find"]["include"].split()))
    tops = {name for name in shipped if "." not in name}
    sources = [path for top in tops for suffix in ("py", "lua") for path in (ROOT / top).rglob(f"*.{suffix}")]
    folders = {".".join(path.parent.relative_to(ROOT).parts): path.parent for path in sources}
    assert folders.keys() == shipped
    with_scripts = {name for name, folder in folders.items() if list(folder.glob("*.lua"))}
    data = config["options.package_data"]
    assert with_scripts == {name for name in data if "*.lua" in data[name].split(", ")}

"""Where Flower is missing, the import says what to install."""

import importlib.util
import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["flwr"] = None
try:
    import jaxinv.flower
except jaxinv.InputError as error:
    print(error)
"""


def test_the_import_names_the_extra():
    code = "import jaxinv\n" + CODE
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "pip install 'jaxinv[flower]'" in run.stdout


def test_the_others_here_are_left_out_without_it():
    if importlib.util.find_spec("flwr") is None:
        pytest.skip("flwr is not installed: pip install 'jaxinv[flower]'")
    import jaxinv.flower

    assert callable(jaxinv.flower.audit_mod)

"""The package, settings and verifier load no library that they do not use."""

import json
import subprocess
import sys

HEAVY = ["faiss", "matplotlib", "sklearn", "tensorboard"]
CODE = f"""
import json, sys
import speechbrain_ext
package = [name for name in sys.modules]
from speechbrain_ext import SpeakerVerifier
heavy = {[*HEAVY, "torch", "pandas", "speechbrain"]}
print(json.dumps({{
    "package": [name for name in heavy if name in package],
    "verifier": [name for name in {HEAVY} if name in sys.modules],
    "loaded": SpeakerVerifier.__module__ in sys.modules,
}}))
"""


def test_heavy_libraries_are_loaded_by_those_who_use_them_only():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"package": [], "verifier": [], "loaded": True}


def test_settings_load_no_heavy_library():
    """Help texts and checks of a plan are made from settings alone."""
    heavy = [*HEAVY, "torch", "numpy", "pandas", "speechbrain", "transformers"]
    code = (
        "import sys\n"
        "from speechbrain_ext.experiment import recipe_settings\n"
        "for recipe in recipe_settings.RECIPE_SETTINGS:\n"
        "    recipe_settings.settings_of(recipe)\n"
        f"assert not set({heavy}) & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

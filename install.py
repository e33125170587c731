"""Run by the webui at each start: adds the packages that it lacks, and none that it pins. Works offline."""

import importlib.util

import launch

# PyAV reads and writes video; the webui brings everything else (numba comes with its face restoration package).
PACKAGES = {"av": "av>=14", "numba": "numba", "filelock": "filelock", "regex": "regex"}

for module, requirement in PACKAGES.items():
    if importlib.util.find_spec(module) is None:
        try:
            launch.run_pip(f'install "{requirement}"', f"{module} for Rerender A Video")
        except Exception as error:
            print(f"Rerender A Video needs {module}, which could not be installed: {error}")  # noqa: T201

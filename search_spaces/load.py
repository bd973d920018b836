"""A study by name: a built-in one (`quickstart`), a module (`my_lab.studies.lr`), or a file (`./my_study.py`).

Each defines STUDY. It can define more, which are named after a colon: `timescale:PAPER`.
"""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType

from descriptions import MistakeError, did_you_mean
from search_spaces import studies
from search_spaces.study import Study


def built_in_studies() -> list[str]:
    """Names of the studies in `search_spaces/studies`, one file each."""
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def variants(name: str) -> list[str]:
    """The references of all studies that a built-in one's file defines: `timescale`, `timescale:PAPER`."""
    found = vars(_module(name)).items()
    return [name, *sorted(f"{name}:{key}" for key, value in found if isinstance(value, Study) and key != "STUDY")]


def names_code(reference: str) -> bool:
    """Whether a study is named by the code that defines it, a file or a variable in one, rather than by its name."""
    return reference.endswith(".py") or "/" in reference or ":" in reference


def load_study(reference: str) -> Study:
    """The `STUDY` that a name, a module path or a file defines, or another of its studies (`file.py:OTHER`).

    Raises:
        MistakeError: nothing goes by that name, it defines no such study, or its code fails (with file and line).

    """
    place, _, name = reference.partition(":")
    name = name or "STUDY"
    module = _module(place)
    study = getattr(module, name, None)
    if study is None:
        near = did_you_mean(name, [key for key, value in vars(module).items() if isinstance(value, Study)])
        raise MistakeError(f"{place!r} defines no {name}: assign a Study to that name at its top level.{near}")
    if not isinstance(study, Study):
        kind = type(study).__name__
        raise MistakeError(f"{name} in {place!r} is of type {kind}; it must be a search_spaces.Study.")
    return study


def _module(reference: str) -> ModuleType:
    if reference.endswith(".py") or "/" in reference:
        return _from_file(Path(reference))
    if "." in reference:
        return _from_module(reference)
    if reference not in built_in_studies():
        near = did_you_mean(reference, built_in_studies())
        raise MistakeError(
            f"There is no study {reference!r}. Built in: {', '.join(built_in_studies())}; "
            f"or name a module or a file such as ./my_study.py.{near}"
        )
    return importlib.import_module(f"search_spaces.studies.{reference}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise MistakeError(f"There is no file {str(path)!r} to read a study from.")
    name = f"study_file_{path.stem}"  # not the bare stem: a study called copy.py must not shadow the library's copy
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise MistakeError(f"{str(path)!r} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses that the file defines look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may raise anything; they want the line, not our traceback
        del sys.modules[name]
        raise MistakeError(_in_user_code(error, str(path))) from error
    return module


def _from_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise MistakeError(f"There is no module {name!r} to read a study from.") from error
        raise MistakeError(_in_user_code(error, name)) from error
    except Exception as error:
        raise MistakeError(_in_user_code(error, name)) from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _in_user_code(error: Exception, where: str) -> str:
    """One sentence with the last line of the user's own file that was involved."""
    here = where.rsplit("/", 1)[-1] if where.endswith(".py") else where.replace(".", "/") + ".py"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith(here)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    place = f"{where}, line {line}" if line is not None else where
    return f"{place}: {error}" if isinstance(error, MistakeError) else f"{place}: {type(error).__name__}: {error}"

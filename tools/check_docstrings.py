"""Docstrings say what the code does: every public class and function of Assay documents just its own parameters.

Uses numpydoc's parser. Prints each disagreement and exits 1 if there is any.
"""

import importlib
import inspect
import pkgutil
import sys

from numpydoc.docscrape import ClassDoc, FunctionDoc

import assay


def public_objects():
    for info in pkgutil.walk_packages(assay.__path__, "assay."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            is_own = getattr(thing, "__module__", None) == info.name
            if is_own and not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
                yield f"{info.name}.{name}", thing
                if inspect.isclass(thing):
                    for method, function in vars(thing).items():
                        if not method.startswith("_") and inspect.isfunction(function):
                            yield f"{info.name}.{name}.{method}", function


def documented(section):
    names = []
    for parameter in section:
        names += [name.strip().lstrip("*") for name in parameter.name.split(",")]
    return names


def disagreement(name, thing):
    if not inspect.getdoc(thing):
        return "has no docstring"
    parser = ClassDoc if inspect.isclass(thing) else FunctionDoc
    doc = parser(thing)
    listed = documented(doc["Parameters"]) + documented(doc["Other Parameters"])
    if inspect.isclass(thing) and issubclass(thing, (Exception, tuple)):
        return None
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        return None  # its parameters are documented where they are defined
    signature = [p for p in inspect.signature(thing).parameters if p not in ("self", "cls")]
    if listed and sorted(listed) != sorted(signature) and not (inspect.isclass(thing) and not signature):
        return f"documents {listed}, takes {signature}"
    if inspect.isclass(thing) and hasattr(thing, "get_params") and signature and not listed:
        return f"documents no parameters, takes {signature}"
    return None


def main():
    wrong = [(name, why) for name, thing in public_objects() if (why := disagreement(name, thing))]
    for name, why in wrong:
        print(f"{name} {why}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Prints what the applications have to have installed, one package a line: `pip`, `npm` or `debian` says which."""

from __future__ import annotations

import sys

from .run import all_apps

if __name__ == "__main__":
    print("\n".join(dict.fromkeys(package for app in all_apps() for package in getattr(app, sys.argv[1]))))

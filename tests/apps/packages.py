"""Prints what pip has to install for the applications."""

from __future__ import annotations

import shlex

from .run import all_apps

if __name__ == "__main__":
    print(shlex.join(dict.fromkeys(package for app in all_apps() for package in app.pip)))

"""`jupyter portproxy user`: the names and passwords of the login `jupyter_portproxy.auth.UserPasswords`."""

from __future__ import annotations

import sys

from ..errors import CliError
from .output import Commands, Options, add_command, print_result, read_secret


def add_commands(commands: Commands) -> None:
    """Add the command to the command line; `options.run(options)` executes it."""
    adding = add_command(commands, "user", _user, "Add a user who logs in with a password, or change the password.")
    adding.add_argument("name")
    text = "a file with the password (- is standard input); without it the password is read from the terminal"
    adding.add_argument("--password-file", metavar="FILE", help=text)
    adding.add_argument("--remove", action="store_true", help="remove the user, and end their logins")
    text = "the file of users; by default portproxy/users in Jupyter's data folder"
    adding.add_argument("--users-file", default="", metavar="PATH", help=text)


async def _user(options: Options) -> None:
    from ..auth.user_passwords import UserFile

    file = UserFile(options.users_file)
    try:
        if options.remove:
            file.remove(options.name)
            return print_result(options, f"{options.name} is removed.", name=options.name)
        file.set(options.name, read_secret(options.password_file) if options.password_file else _type_password())
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CliError(f"The file of users {file.path} cannot be used: {reason}.") from None
    print_result(options, f"{options.name} can log in.", name=options.name)


def _type_password() -> str:
    if not sys.stdin.isatty():
        raise CliError(
            "Standard input is not a terminal.\nGive the password in a file: --password-file FILE, or - for standard input."
        )
    from getpass import getpass

    first = getpass("Password: ")
    if getpass("The same again: ") != first:
        raise CliError("The two passwords differ.\nRun the command again.")
    return first

"""`jupyter portproxy login`, `logout` and `logins`: the token for a server elsewhere, asked for once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..errors import CliError
from .api_command import add_server_options
from .output import Commands, Options, print_json, print_table, read_secret

if TYPE_CHECKING:
    from .server_address import ServerAddress


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    texts = {
        "login": "Log in to a server elsewhere with a token, once; without a URL list the logins.",
        "logout": "Forget the token for a server.",
        "logins": "List the servers that you have logged in to.",
    }
    login, logout, logins = (commands.add_parser(name, help=text, description=text) for name, text in texts.items())
    login.add_argument("url", metavar="URL", nargs="?", help="of the server, as the browser shows it")
    text = "a file with the token (- is standard input); without it the token is read from the terminal, or from standard input"
    login.add_argument("--token-file", metavar="FILE", help=text)
    add_server_options(login, with_server=False)
    logout.add_argument("url", metavar="URL", nargs="?", help="of the server; not needed if there is one login")
    login.set_defaults(run=lambda options: _list(options) if _url(options) is None else _login(options))
    logout.set_defaults(run=_logout)
    logins.set_defaults(run=_list)
    for command in (login, logins):
        command.add_argument("--json", action="store_true", help="print JSON")


def _login(options: Options) -> None:
    """Check a token against the server, and keep it. A token that the server does not accept is not kept."""
    from .api_client import ApiClient
    from .credentials import KEYRING, LoginStore
    from .refusals import explain_page
    from .server_address import ServerAddress, is_same_server, parse_server_url

    url, token = parse_server_url(_url(options) or "")
    store = LoginStore()
    before = [login.ca_file for login in store.logins() if is_same_server(url, login.url)]
    server = ServerAddress(url, ca_file=os.path.abspath(options.ca_file) if options.ca_file else "".join(before))
    token = token if token and not options.token_file else _read_token(server, options.token_file)
    server = ServerAddress(url, token, server.ca_file)
    client = ApiClient(server, options.timeout)
    if not isinstance(client.call("GET", "services"), list):
        raise explain_page(server)
    login, problem = store.keep(url, token, server.ca_file)
    if options.json:
        return print_json({"url": url, "token_in": login.place, "ca_file": login.ca_file})
    where = "keyring" if login.place == KEYRING else f"file {store.path}, which only you can read, because {problem}"
    print(f"You are logged in to {url}\nThe token is kept in the {where}.")


def _read_token(server: ServerAddress, file: str | None) -> str:
    if file in (None, "-") and sys.stdin is None:
        raise CliError("Standard input is closed.\nGive the token in a file: --token-file FILE")
    if file is None and sys.stdin.isatty():
        from getpass import getpass
        from urllib.parse import urljoin

        if server.hub_path is not None:
            print(f"Make a token at {urljoin(server.url, f'{server.hub_path}token')}", file=sys.stderr)
        try:
            token = getpass(f"Token for {server.url}: ")
        except EOFError:
            token = ""
    else:
        token = read_secret(file or "-")
    if not token.strip():
        raise CliError("The token is empty.\nType it, send it to standard input, or give its file: --token-file FILE")
    return token.strip()


def _logout(options: Options) -> None:
    from .credentials import LoginStore
    from .server_address import is_same_server, parse_server_url

    store = LoginStore()
    logins = store.logins()
    given = _url(options)
    if given is not None:
        url = parse_server_url(given)[0]
        logins = [login for login in logins if is_same_server(url, login.url)]
    if not logins:
        raise CliError(f"You are not logged in to {url}" if given is not None else "You are not logged in to any server.")
    if len(logins) > 1:
        raise CliError("There are several logins; name one:\n" + "\n".join(login.url for login in logins))
    store.remove(logins[0])
    print(f"The token for {logins[0].url} is forgotten here. It stays valid until it ends or you revoke it at the server.")


def _url(options: Options) -> str | None:
    """The URL that is given, after the command or as `--server` before it."""
    url: str | None = options.url or options.server
    return url


def _list(options: Options) -> None:
    from .credentials import LoginStore

    logins = LoginStore().logins()
    if options.json:
        return print_json([{"url": login.url, "token_in": login.place, "ca_file": login.ca_file} for login in logins])
    print_table(["LOGIN", "TOKEN IN", "CA FILE"], [[login.url, login.place, login.ca_file or "-"] for login in logins])

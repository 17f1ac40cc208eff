"""Sub-commands of `perpcore` for gateways, users and keys.

Reads   arguments, configuration (shm/config.py).
Writes  text, or JSON with --json; a secret once, when it is made.
Never   does the work itself: each imports its module when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tools.options import Commands, Examples, as_json, config_of, configured, print_json


@click.group(cls=Commands)
def gateway() -> None:
    """Doors of an exchange: HTTP and WebSocket, and the operators' own."""


@gateway.command(
    cls=Examples,
    epilog="""
    perpcore gateway http
    perpcore gateway http --number 1 --set http.port=8081
    """,
)
@configured
@click.option(
    "--number", type=click.IntRange(0, 7), default=0, help="Sends as producer gateway<NUMBER>."
)
def http(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    number: int,
) -> None:
    """Serve HTTP and WebSocket in the dialect of Binance USD-M futures.

    Several may run beside each other, each with a number of its own; they share the port. Stops in
    order when told to (SIGTERM, Ctrl-C).
    """
    from gateways.http.main import run

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    sys.exit(run(config, f"gateway{number}"))


@gateway.command(
    cls=Examples,
    epilog="""
    perpcore gateway zmq
    perpcore gateway zmq --number 3 --set zmq.tcp=0.0.0.0:7010
    """,
)
@configured
@click.option(
    "--number", type=click.IntRange(0, 7), default=3, help="Sends as producer gateway<NUMBER>."
)
def zmq(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    number: int,
) -> None:
    """Serve the native protocol over ZeroMQ with CURVE.

    msgpack or raw records in, durable reports out; gateways/zmq/protocol.py says how. Keys are made
    with: perpcore key new NAME --curve PUBLIC_KEY
    """
    from gateways.zmq.main import run

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    sys.exit(run(config, f"gateway{number}"))


@gateway.command(
    cls=Examples,
    epilog="""
    perpcore gateway market
    perpcore gateway market --set zmq.market_tcp=0.0.0.0:7020
    """,
)
@configured
def market(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Serve market data over ZeroMQ: books, snapshots, streams.

    Records and msgpack; needs the market-data follower. gateways/zmq/market.py lists the topics.
    """
    from gateways.zmq.market import run

    sys.exit(run(config_of(config_path, settings, instance=instance, data_dir=data_dir)))


@gateway.command(cls=Examples, epilog="perpcore gateway admin")
@configured
def admin(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Serve the operators' endpoints on a Unix socket: <data>/admin.sock.

    The modules that name them, gateways/http/adminsocket.py, list them all.
    """
    from gateways.http.main import ADMIN, run

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    sys.exit(run(config, ADMIN))


@click.group(cls=Commands)
def user() -> None:
    """Users: who may log in, and whose accounts are whose."""


@user.command(
    "add",
    cls=Examples,
    epilog="""
    perpcore user add ann
    perpcore user add olga --operator
    """,
)
@click.argument("name")
@configured
@click.option("--operator", is_flag=True, help="May administer; has no account.")
@click.option("--password", default="", help="Asked for when it isn't given.")
@as_json
def user_add(
    name: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    operator: bool,
    password: str,
    as_json: bool,
) -> None:
    """Add a user, and open an account for them."""
    from gateways.http.adminclient import administer

    if not password:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    body = {"name": name, "password": password, "admin": operator}
    found = administer(
        config,
        "/users",
        body,
        lambda admin, who: admin.add_user(who, name, password, admin=operator),
    )
    _show(found, as_json)


@click.group(cls=Commands)
def key() -> None:
    """API keys: what programs sign with."""


@key.command(
    "new",
    cls=Examples,
    epilog="""
    perpcore key new ann --scopes read,trade
    perpcore key new ann --scopes read,trade,withdraw --network 203.0.113.7
    """,
)
@click.argument("name")
@configured
@click.option("--account", type=int, help="One of the user's accounts; default the first.")
@click.option("--scopes", default="read", show_default=True, help="read,trade,transfer,withdraw")
@click.option("--network", "networks", multiple=True, help="Good from there only.")
@click.option("--label", default="", help="For whoever looks at the list.")
@click.option("--public-key", default="", help="Ed25519, hexadecimal; else an HMAC secret is made.")
@click.option("--curve", default="", help="CURVE, for the native gateway: 40 characters.")
@as_json
def key_new(
    name: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    account: int | None,
    scopes: str,
    networks: tuple[str, ...],
    label: str,
    public_key: str,
    curve: str,
    as_json: bool,
) -> None:
    """Make an API key for a user. Its secret is shown now, and never again."""
    from gateways.http.adminclient import administer

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    body: dict[str, Any] = {"name": name, "account": account, "scopes": scopes, "label": label}
    body |= {"networks": list(networks), "public_key": public_key}
    body["curve"] = curve
    found = administer(
        config,
        "/keys",
        body,
        lambda admin, who: admin.new_key(
            who,
            name,
            account=account,
            scopes=scopes,
            networks=networks,
            label=label,
            public_key=public_key,
            curve=curve,
        ),
    )
    _show(found, as_json)


@key.command("revoke", cls=Examples, epilog="perpcore key revoke 0f3a...")
@click.argument("api_key")
@configured
def key_revoke(
    api_key: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Revoke an API key: within a second, on live connections too."""
    from gateways.http.adminclient import administer

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    administer(
        config,
        "/keys/revoke",
        {"api_key": api_key},
        lambda admin, who: admin.revoke_key(who, api_key),
    )
    click.echo(f"revoked {api_key}")


@key.command("list", cls=Examples, epilog="perpcore key list --json")
@configured
@as_json
def key_list(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """List API keys, without their secrets."""
    from gateways.http.main import open_store

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    store, _, _ = open_store(config)
    rows = store.key_rows()
    store.close()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = "revoked" if row["revoked_ms"] else "good"
        click.echo(
            f"{row['api_key']}  {row['user']}  account {row['account']}  {row['scopes']}  "
            f"{' '.join(row['networks']) or 'from anywhere'}  {state}  {row['label']}"
        )


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name:<10} {value}")


def register(main: click.Group) -> None:
    """Add these commands to `perpcore`."""
    for group in (gateway, user, key):
        main.add_command(group)

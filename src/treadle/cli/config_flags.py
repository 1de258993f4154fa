"""The flags about configuration that several commands share."""

import argparse
import sys

from treadle.config.errors import FlagError
from treadle.config.load import load_config
from treadle.config.store import ConfigStore


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add `-c`, `--enable`, `--disable`, `--profile` and `--strict-config`."""
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one configuration key; the value is TOML (repeatable)",
    )
    parser.add_argument("--enable", action="append", default=[], metavar="FEATURE")
    parser.add_argument("--disable", action="append", default=[], metavar="FEATURE")
    parser.add_argument("-p", "--profile", help="read NAME.config.toml of the home folder as well")
    parser.add_argument(
        "--strict-config", action="store_true", help="refuse unknown configuration keys"
    )


def open_config(options: argparse.Namespace) -> ConfigStore | None:
    """The configuration for these flags; None after saying on stderr what is wrong with them."""
    try:
        return load_config(
            overrides=options.config,
            enable=options.enable,
            disable=options.disable,
            profile=options.profile,
            strict=options.strict_config,
        )
    except FlagError as error:
        print(f"treadle: {error}", file=sys.stderr)
        return None

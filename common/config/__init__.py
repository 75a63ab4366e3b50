"""Typed configuration: YAML becomes frozen structures; each mistake is told with file, line, key and cure."""

from spillover.common.config.document import MAX_BYTES
from spillover.common.config.file import (
    ConfigFile,
    Examined,
    convert_config,
    examine_config,
    examine_values,
    load_config,
    no_file,
    parse_config,
    read_config,
    under_key,
)
from spillover.common.config.section import Mistake, Section, changed_keys

__all__ = [
    "MAX_BYTES",
    "ConfigFile",
    "Examined",
    "Mistake",
    "Section",
    "changed_keys",
    "convert_config",
    "examine_config",
    "examine_values",
    "load_config",
    "no_file",
    "parse_config",
    "read_config",
    "under_key",
]

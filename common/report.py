"""What `--check` tells: the mistakes in a configuration and in what it names, warnings, derived figures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from spillover.common.cli import EXIT_CONFIG, EXIT_MODEL
from spillover.common.errors import ConfigError, ModelError


@dataclass(slots=True)
class Report:
    """What was found: mistakes of configuration and of models, what is worth a look, and derived figures.

    `locate` puts file and line before a text that begins with a key.
    """

    locate: Callable[[str], str] = str
    config: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of a start that meets the same, the configuration's first; 0 when there is no mistake."""
        return EXIT_CONFIG if self.config else EXIT_MODEL if self.models else 0

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Take down a ConfigError or ModelError of what is inside, and go on after it."""
        try:
            yield
        except ConfigError as error:
            self.config.extend(str(error).splitlines())
        except ModelError as error:
            self.models.extend(str(error).splitlines())

    def lines(self) -> Iterator[str]:
        """The whole as lines of text."""
        yield from (f"{name:<24} {value}" for name, value in self.facts)
        yield from (f"warning: {self.locate(text)}" for text in self.warnings)
        yield from (f"mistake: {self.locate(text)}" for text in (*self.config, *self.models))
        count = len(self.config) + len(self.models)
        yield f"{count} mistake{'' if count == 1 else 's'}" if count else "no mistakes"

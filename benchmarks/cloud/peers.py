"""Prepares the environments of Triton and MLServer, which the tests use where they find them."""

from benchmarks.cloud import mlserver, triton
from benchmarks.cloud.contenders import NotHereError
from benchmarks.cloud.engine import Engine
from benchmarks.cloud.environments import environment
from spillover.lab.terminal import open_console

ENGINE = Engine(1)
REQUIREMENTS = {"triton": triton.requirements(ENGINE), "mlserver": mlserver.requirements(ENGINE)}


def main() -> None:
    """Install each where it is not there yet; one that cannot be installed is named, and is no failure."""
    console = open_console()
    for name, requirements in REQUIREMENTS.items():
        with console.status(f"installing {name}"):
            try:
                console.print(f"{name}: {environment(name, requirements)}", markup=False)
            except NotHereError as error:
                console.print(f"not here: {error}", markup=False)


if __name__ == "__main__":
    main()

"""`python -m kataven.hub`: runs `python -m kataven.serve`, the API and the Hub in one process by default."""

import runpy

if __name__ == "__main__":
    # Not an import: this package must not depend on the composition root.
    runpy.run_module("kataven.serve", run_name="__main__", alter_sys=True)

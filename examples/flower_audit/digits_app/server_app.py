"""The server: Flower's FedAvg, with every reply audited."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits_app.task import audit, initial
from jaxinv import flower

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the rounds."""
    config = context.run_config
    strategy = flower.AuditedStrategy(
        FedAvg(fraction_evaluate=0.0), audit(), out=config["out"] or None
    )
    strategy.start(grid, flower.arrays_of(initial()), num_rounds=int(config["rounds"]))

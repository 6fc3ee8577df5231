"""Train with Lightning's Trainer, then meet with Accelerate: neither may start processes of its own."""

from __future__ import annotations

import json
import os

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments import TorchElasticEnvironment


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(int(os.environ["RANK"]))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 4)), batch_size=2)
    model = Model()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    state = PartialState(cpu=True)
    environment = type(trainer.strategy.cluster_environment).__name__
    found = {
        "pid": os.getpid(),
        "environment": TorchElasticEnvironment.detect() and environment,
        "lightning": [trainer.global_rank, trainer.local_rank, trainer.world_size, trainer.global_step],
        "accelerate": [state.process_index, state.local_process_index, state.num_processes],
        "backend": state.backend,
        "weights": gather_object([model.layer.weight.tolist()]),
    }
    with open(f"found-{os.environ['RANK']}.json", "w") as stream:
        json.dump(found, stream)
    state.destroy_process_group()


main()

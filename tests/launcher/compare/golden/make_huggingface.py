"""What transformers' own ProgressCallback prints, and its TrainerState writes, of a training that is made up.

python make_huggingface.py FOLDER 2>&1: the console, bars and all; FOLDER/trainer_state.json: the file.
"""

from __future__ import annotations

import sys

from transformers.trainer_callback import ProgressCallback, TrainerControl, TrainerState


class Args:
    """All that the callback looks at."""

    logging_steps, disable_tqdm = 10, False


def main(folder: str) -> None:
    """50 steps of 2 epochs, a loss every 10, an evaluation after the first epoch."""
    state, control, bar = TrainerState(max_steps=50, num_train_epochs=2), TrainerControl(), ProgressCallback()

    def log(**values: float) -> None:
        state.log_history.append({**values, "step": state.global_step})
        bar.on_log(Args(), state, control, logs=values)

    bar.on_train_begin(Args(), state, control)
    for step in range(1, 51):
        state.global_step, state.epoch = step, step / 25
        bar.on_step_end(Args(), state, control)
        if step % 10 == 0:
            loss = float("nan") if step == 40 else 2 / step**0.5
            log(loss=loss, grad_norm=1 + 1 / step, learning_rate=5e-5 * (50 - step) / 50, epoch=state.epoch)
        if step == 25:
            log(eval_loss=0.41, eval_exact_match=81.25, eval_f1=88.5, epoch=1.0)
    log(train_runtime=12.5, train_samples_per_second=32.0, train_steps_per_second=4.0, epoch=2.0)
    bar.on_train_end(Args(), state, control)
    state.save_to_json(folder + "/trainer_state.json")


main(sys.argv[1])

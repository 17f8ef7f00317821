"""Recipes: the losses, rates and batches that go with a network, and with a task."""

from __future__ import annotations

from typing import Any

from radsynth.choices import Choice

RECIPES: dict[str, dict[str, Any]] = {
    # docs/lab-notebook.md has the trials behind the first. The others take their papers' losses, and batches and rates
    # for short runs; they are not tuned.
    "sngan": {
        "task.loss": "hinge", "task.penalty": "none", "task.discriminator_rate": 2.0, "task.warm_start": 0.03,
        "task.warm_start_rate": 1.25, "task.anchor": 10.0, "train.batch": 16, "train.rate": 1.6e-3,
    },
    "r3gan": {
        "task.loss": "relativistic", "task.penalty": "r1_r2", "task.penalty_weight": 1.0,
        "task.penalty_weight_end": 0.1, "train.batch": 32, "train.rate": 4e-4,
    },
    "dcgan": {"task.loss": "non_saturating", "train.batch": 64, "train.rate": 2e-4, "train.beta1": 0.5,
              "train.beta2": 0.999},
    "mlp": {"task.loss": "non_saturating", "train.batch": 64, "train.rate": 2e-4, "train.beta1": 0.5,
            "train.beta2": 0.999},
    "progressive": {"task.loss": "wasserstein", "task.penalty": "wgan_gp", "task.penalty_weight": 10.0,
                    "task.penalty_weight_end": 10.0, "train.batch": 16, "train.rate": 1e-3},
    "style": {"task.loss": "non_saturating", "task.penalty": "r1", "task.penalty_weight": 1.0,
              "task.penalty_weight_end": 1.0, "task.penalty_every": 8, "train.batch": 16, "train.rate": 1e-3},
    "spade": {"train.batch": 16, "train.rate": 1e-3},
    "unet": {"train.batch": 16, "train.rate": 1e-3, "train.beta1": 0.9},
}
"""Losses and rates that go with a network."""
TASK_RECIPES: dict[str, dict[str, Any]] = {
    "translate": {"model.discriminator_width": 16, "train.rate": 3e-3, "train.clip": 1.0},
    "segment": {"train.rate": 3e-3, "train.clip": 1.0},
    "semantic": {"task.styles": "principal", "task.discriminator_rate": 1.0, "task.warm_start": 0.1,
                 "train.rate": 2e-3},
    "cycle": {"train.rate": 4e-4, "train.beta1": 0.5}, "cut": {"train.rate": 4e-4, "train.beta1": 0.5},
}
"""What a task needs other than its network's recipe. Translations are as near with half of the discriminator's width,
which leaves time for more images. A truth bears a high rate; where nothing but the discriminator leads, it loses the
thread at one. Styles that are principal coordinates bear one, too, those that an encoder learns run away; a
discriminator at twice that rate dies (lab notebook)."""
DEFAULT_MODEL = "sngan"
TUNING: dict[str, Any] = {"train.freeze": 2}
"""What goes with a start from other weights when images are few. Smaller steps did not help (lab notebook)."""


def recipe(model: str, task: str = "") -> list[Choice]:
    """The losses and rates that go with a network, and with a task."""
    own = TASK_RECIPES.get(task, {})
    choices = [Choice(setting=setting, value=value, reason=f"What goes with {model}.")
               for setting, value in RECIPES.get(model, {}).items() if setting not in own]
    return choices + [Choice(setting=setting, value=value, reason=f"What goes with {task}.")
                      for setting, value in own.items()]

// The loss of the validation set among the scores of an evaluation, the same for all tasks.
#pragma once
#include "core/scores.h"

namespace sg::tasks {

inline const ScoreInfo kValidationLoss{.name = "loss",
                                       .label = "loss",
                                       .title = "validation loss",
                                       .digits = 3,
                                       .more_is_better = false};

}  // namespace sg::tasks

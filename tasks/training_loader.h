// The loader of a rank's training batches, whatever the task.
#pragma once
#include "data/loader.h"
#include "dist/group.h"

namespace sg::tasks {

// Of `training`: batch_size, step_batches and seed. Of `loading`, which evaluation shares: workers,
// max_broken_share and group.
template <class Training, class Loading>
data::LoaderConfig training_loader(const Training& training, const Loading& loading) {
  return {.batch_size = int(training.batch_size),
          .seed = training.seed,
          .rank = loading.group->rank(),
          .ranks = loading.group->ranks(),
          .step_batches = int(training.step_batches),
          .workers = int(loading.workers),
          .max_broken_share = loading.max_broken_share};
}

}  // namespace sg::tasks

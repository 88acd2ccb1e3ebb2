// The ranks of a run as parts of one batch, whose statistics batch norm shares (SyncBatchNorm).
#pragma once
#include "dist/communicator.h"
#include "ops/batch_norm/batch_norm.h"

namespace sg::tasks {

class RankParts final : public BatchParts {
 public:
  explicit RankParts(dist::Communicator& communicator) : communicator_(communicator) {}
  int count() const override { return communicator_.ranks(); }
  void all_gather(const Tensor& mine, Tensor& all) override {
    communicator_.all_gather("statistics of batch norm", mine, all);
  }

 private:
  dist::Communicator& communicator_;
};

}  // namespace sg::tasks

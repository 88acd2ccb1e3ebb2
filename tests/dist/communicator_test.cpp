#include "dist/communicator.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "dist/alone.h"
#include "tests/support/skip.h"

using namespace sg;

TEST_CASE("communicator: a build without NCCL says so, and what to do") {
  if (!test::have_emulation()) return;  // of kernels alone: there is no NCCL
  CHECK_FALSE(dist::has_communicator(DeviceType::cuda));
  CHECK_THROWS_WITH_AS(dist::make_communicator(dist::alone(), test::kCuda),
                       doctest::Contains("several processes on cuda:0: this build has no NCCL"),
                       Error);
}

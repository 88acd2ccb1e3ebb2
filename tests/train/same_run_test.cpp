#include "train/same_run.h"

#include <doctest/doctest.h>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;
using namespace sg::train;

namespace {

// Why a run of classes `now` does not go on from a checkpoint of classes `before`.
std::string refused(const nlohmann::json& before, const nlohmann::json& now) {
  const Options options;
  const nlohmann::json args = to_json(options);
  const Resumable from{"last.safetensors", {{}, {{"args", args}, {"classes", before}}}};
  report::Console console;
  console.mute();
  return error_of(ExitCode::checkpoint, [&] {
    check_same_run(from, {{"args", args}, {"classes", now}}, options, console);
  });
}

}  // namespace

TEST_CASE("resume: classes in another order are told from other classes, and what to do") {
  const std::string order = refused({"sky", "road", "car", "tree"}, {"sky", "car", "tree", "road"});
  CHECK(contains(order,
                 "the same 4 names in another order: class 1 is \"road\" there, \"car\" here"));
  CHECK(contains(order, "--class-map FILE"));
  CHECK(contains(refused({"wall", "wall", "sky"}, {"wall", "sky", "wall"}), "class 1 is \"wall\""));
  CHECK(contains(refused({"sky", "road"}, {"sky", "car"}), "2 -> 2 names; gone: road; new: car"));
  CHECK(contains(refused({"sky"}, {"sky", "sky"}), "1 -> 2 names; gone: none; new: none"));
  CHECK(contains(refused({}, {"sky"}), "not known"));
}

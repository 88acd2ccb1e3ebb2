// What a run of several processes tells of its communication.
#include <sstream>

#include "tests/tools/runs.h"

namespace sg {
using namespace sg::test;

TEST_CASE("sgtrain: rows and report of two processes have what a step's communication took") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 64, 8);
  for (const int ranks : {1, 2}) {
    CAPTURE(ranks);
    const auto out = folder / std::to_string(ranks);
    const Ran ran = run_program(
        sgtrain(folder / "data", out, fmt::format("--nproc-per-node {} --threads 1", ranks)));
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK(contains(read_file(out / "report.html"), "of it hidden") == (ranks > 1));
    std::istringstream lines(read_file(out / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto row = nlohmann::json::parse(line);
      CHECK(row.contains("comm_seconds") == (ranks > 1));
      if (ranks == 1) continue;
      CHECK(row["comm_seconds"] > 0);
      CHECK(row["comm_exposed_seconds"] >= 0);
      CHECK(row["step_seconds"] >= row["comm_exposed_seconds"]);
    }
  }
}

}  // namespace sg

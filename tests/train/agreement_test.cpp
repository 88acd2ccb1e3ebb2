// Ranks that were started differently.
#include "train/agreement.h"

#include "dist/blame.h"
#include "tests/dist/ranks.h"
#include "tests/support/environment.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("agreement: what differs is said on all ranks; our launcher need not start them again") {
  for (const bool ours : {false, true}) {
    const Environment launcher("SG_LAUNCHER",
                               ours ? std::optional<std::string>("sgtrain") : std::nullopt);
    Ranks ranks(3, kPatient, [](dist::Group& group) {
      train::check_agreement(group, "options", {{"seed", 42}});
      train::check_agreement(group, "data", {{"images", group.rank() == 2 ? 7 : 8}});
    });
    for (const Outcome& o : ranks.wait()) {
      CHECK(ExitCode(o.code) == (ours ? dist::kNotAlike : ExitCode::peer));
      CHECK(contains(o.text, "data differs:\n  images                 8 on rank 0, 7 on rank 2"));
    }
  }
}
